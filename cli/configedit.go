package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/cli/config"
	"inkan/cli/sealing"
)

func (p *program) configEdit(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	folder, o := c.String("data"), p.options(c, slog.LevelWarn)
	d, err := sealing.ReadConfig(c.Context, folder, o)
	if err != nil {
		return p.explained(c, err)
	}
	dir, err := memoryFolder()
	if err != nil {
		if !c.Bool("plaintext-on-disk") && d.Generation > 0 {
			return fmt.Errorf("%w: say --plaintext-on-disk to have the copy on a disk", err)
		}
		dir = ""
	}
	text, err := p.edit(c.Context, dir, d.Text)
	if err != nil {
		return err
	}
	defer clear(text)
	if bytes.Equal(text, d.Text) {
		fmt.Fprintln(p.err, "Nothing was changed.")
		return nil
	}
	g, err := sealing.WriteConfig(c.Context, folder, d.Generation, text, o)
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.printSaved(c, g)
}

// edit has a text edited in a file that only this user may read, until it checks.
func (p *program) edit(ctx context.Context, dir string, text []byte) (out []byte, err error) {
	tmp, err := os.MkdirTemp(dir, "inkan-edit-") // mode 0700
	if err != nil {
		return nil, err
	}
	path := filepath.Join(tmp, sealing.ConfigFile)
	defer func() { err = errors.Join(err, wipeFile(path), os.RemoveAll(tmp)) }()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	for {
		if err := p.runEditor(ctx, path); err != nil {
			return nil, err
		}
		if out, err = os.ReadFile(path); err != nil {
			return nil, err
		}
		_, err := config.Decode(out)
		if err == nil {
			return out, nil
		}
		fmt.Fprintf(p.err, "%v\n", err)
		again, askErr := p.confirm("Edit again")
		if askErr != nil || !again {
			return nil, errors.Join(fmt.Errorf("nothing was changed: %w", err), ignoreNoTerminal(askErr))
		}
	}
}

func ignoreNoTerminal(err error) error {
	if errors.Is(err, errNoTerminal) {
		return nil
	}
	return err
}

func (p *program) runEditor(ctx context.Context, path string) error {
	words := strings.Fields(defaultString(os.Getenv("VISUAL"), defaultString(os.Getenv("EDITOR"), "vi")))
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], path)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.in, p.err, p.err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("editing: %s: %w", words[0], err)
	}
	return nil
}

// wipeFile overwrites what an editor has left under the name.
func wipeFile(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, st.Size()))
	return errors.Join(err, f.Close())
}
