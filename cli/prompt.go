package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"inkan/apdu/secret"
)

// ioWriter saves the commands an import.
type ioWriter = io.Writer

// errNoTerminal means that a question came up and nobody can answer it.
var errNoTerminal = errors.New("there is no terminal to ask on")

// terminal is the file descriptor of standard input if it is a terminal.
func (p *program) terminal() (int, bool) {
	f, ok := p.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

// ask asks a question whose answer may be seen. An empty answer is the default.
func (p *program) ask(question, byDefault string) (string, error) {
	if _, ok := p.terminal(); !ok {
		return "", fmt.Errorf("%s: %w", question, errNoTerminal)
	}
	if byDefault != "" {
		question += " [" + byDefault + "]"
	}
	fmt.Fprintf(p.err, "%s: ", question)
	line, err := readLine(p.in)
	if err != nil {
		return "", err
	}
	if line == "" {
		return byDefault, nil
	}
	return line, nil
}

// readLine reads one line, byte by byte so that nothing behind it is lost.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var b [1]byte
	for {
		n, err := r.Read(b[:])
		if n == 1 {
			if b[0] == '\n' {
				return strings.TrimRight(string(line), "\r"), nil
			}
			if line = append(line, b[0]); len(line) > 4096 {
				return "", errors.New("the line is too long")
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) && len(line) > 0 {
				return string(line), nil
			}
			return "", err
		}
	}
}

// confirm asks a question that is answered yes or no; no by default.
func (p *program) confirm(question string) (bool, error) {
	a, err := p.ask(question+" (y/N)", "")
	if err != nil {
		return false, err
	}
	a = strings.ToLower(a)
	return a == "y" || a == "yes", nil
}

// askSecret asks without echo: it is off before the question is there, for who answers
// at once. The question can be interrupted: ctx's end restores the terminal.
func (p *program) askSecret(ctx context.Context, question string) (secret.Secret, error) {
	fd, ok := p.terminal()
	if !ok {
		return secret.Secret{}, fmt.Errorf("%s: %w; name a file that holds it (-h shows how)", question, errNoTerminal)
	}
	state, err := term.GetState(fd)
	if err != nil {
		return secret.Secret{}, err
	}
	if err := muteTerminal(fd); err != nil {
		return secret.Secret{}, fmt.Errorf("switching the terminal's echo off: %w", err)
	}
	fmt.Fprintf(p.err, "%s: ", question)
	type answer struct {
		b   []byte
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		b, err := term.ReadPassword(fd)
		answers <- answer{b, errors.Join(err, term.Restore(fd, state))}
	}()
	select {
	case a := <-answers:
		fmt.Fprintln(p.err)
		if a.err != nil {
			return secret.Secret{}, fmt.Errorf("reading the answer: %w", a.err)
		}
		return secret.New(a.b), nil
	case <-ctx.Done():
		fmt.Fprintln(p.err)
		return secret.Secret{}, errors.Join(ctx.Err(), term.Restore(fd, state))
	}
}

// askNew asks for a new secret twice.
func (p *program) askNew(ctx context.Context, what string) (secret.Secret, error) {
	for {
		first, err := p.askSecret(ctx, what)
		if err != nil {
			return secret.Secret{}, err
		}
		again, err := p.askSecret(ctx, what+" again")
		if err != nil {
			return secret.Secret{}, err
		}
		if first.Equal(again) {
			again.Wipe()
			return first, nil
		}
		fmt.Fprintln(p.err, "The two are not the same.")
	}
}

// maxSecretFile bounds a file that holds a secret, in bytes.
const maxSecretFile = 1024

// readSecret reads the first line of a file; "-" is standard input.
func (p *program) readSecret(file string) (secret.Secret, error) {
	r := p.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return secret.Secret{}, fmt.Errorf("reading a secret: %w", err)
		}
		defer f.Close()
		r = f
	}
	b, err := bufio.NewReaderSize(io.LimitReader(r, maxSecretFile), maxSecretFile).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return secret.Secret{}, fmt.Errorf("reading a secret: %w", err)
	}
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return secret.Secret{}, fmt.Errorf("the file %s holds no secret", file)
	}
	return secret.New(b), nil
}

func (p *program) askPassphrase() (secret.Secret, error) {
	return p.askSecret(context.Background(), "Passphrase of the key file")
}
