package server_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/hsm/hsmtest"
	"inkan/tps/seal"
)

// smallDisk is a disk of some megabytes, in memory.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs a disk of its own; set INKAN_REAL=1")
	}
	if os.Getuid() != 0 {
		t.Skip("only root mounts a disk")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mounting: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmounting: %v: %s", err, out)
		}
	})
	return dir
}

// fill leaves no byte free.
func fill(t *testing.T, disk string) (release func()) {
	t.Helper()
	path := filepath.Join(disk, "filler")
	f, err := os.Create(path)
	must(t, err)
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk does not fill: %v", err)
	}
	must(t, f.Close())
	return func() { must(t, os.Remove(path)) }
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestFullDisk: on a full disk nothing is changed and the reason is named; where it
// fills up at any write of a change, what was there opens, or what was to be.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t)
	folder := filepath.Join(disk, "data")
	prepared(t, folder)
	_, err := sealing.Seal(t.Context(), folder, place{}.plan(folder), server.Options{})
	must(t, err)
	want := text(t, folder)
	release := fill(t, disk)
	if err := changes["set"](t.Context(), folder, place{}, server.Options{}); !errors.Is(err, seal.NoSpace) {
		t.Errorf("a change on a full disk: %v", err)
	}
	doctorSays(t, folder, seal.NoSpace, sealing.Failed)
	release()
	if text(t, folder) != want {
		t.Error("a full disk changed the configuration")
	}
	for _, name := range []string{"set", "rotate"} {
		tried := 0
		for at := 1; ; at++ {
			n := 0
			release := func() {}
			err := changes[name](t.Context(), folder, place{}, server.Options{Step: func(seal.Role, string) {
				if n++; n == at {
					release = fill(t, disk)
				}
			}})
			release()
			if n < at {
				must(t, err)
				break
			}
			tried++
			if err != nil && !errors.Is(err, seal.NoSpace) {
				t.Errorf("%s, full at step %d: %v", name, at, err)
			}
			if got := strings.ReplaceAll(text(t, folder), "# changed\n", ""); got != want {
				t.Errorf("%s, full at step %d: another configuration", name, at)
			}
			must(t, open(t, folder))
		}
		if tried < 4 {
			t.Errorf("%s: %d steps", name, tried)
		}
	}
}

const strangerModule = "INKAN_TEST_MODULE" // that the child may not read

// TestStranger: a user who is not in the group that may use the HSM is told so.
func TestStranger(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	if os.Getuid() != 0 {
		t.Skip("only root becomes another user")
	}
	dir, err := os.MkdirTemp("", "stranger-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	program, module := filepath.Join(dir, "program"), filepath.Join(dir, "module.so")
	for to, from := range map[string]string{program: os.Args[0], module: soft.Module} {
		b, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(to, b, 0o755))
	}
	must(t, os.Chmod(module, 0o640)) // root's group only
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestStrangerChild$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), strangerModule+"="+module)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestStrangerChild is the process of another user.
func TestStrangerChild(t *testing.T) {
	module := os.Getenv(strangerModule)
	if module == "" {
		return
	}
	var e *seal.Error
	if _, err := sealing.Tokens(module, ""); !errors.As(err, &e) || e.Code != seal.DependencyMissing || !strings.Contains(e.Next(), "group") {
		t.Errorf("%v", err)
	}
}

// TestClockAndChain: the doctor sees a clock that is behind, and a certificate chain
// that is not there.
func TestClockAndChain(t *testing.T) {
	t.Parallel()
	folder := sealedFolder(t, place{})
	must(t, os.Chmod(folder, 0o700))
	d, err := sealing.ReadConfig(t.Context(), folder, server.Options{})
	must(t, err)
	d.Text, err = config.Set(d.Text, config.Assignment{Key: "listen.certificate", Value: "site.pem"}, config.Assignment{Key: "listen.key", Value: "site.pem"})
	must(t, err)
	_, err = sealing.WriteConfig(t.Context(), folder, d.Generation, d.Text, server.Options{})
	must(t, err)
	doctorSays(t, folder, seal.DependencyMissing, sealing.Failed)
	edited(sealedConfig, mended(func(b []byte) { // field 0004, the time it was sealed, a century on
		for i := 16; ; i++ {
			if string(b[i:i+4]) == "\x00\x04\x00\x08" {
				b[i+8] = 0xFF
				return
			}
		}
	}))(t, folder)
	for _, f := range sealing.Diagnose(t.Context(), folder, false, server.Options{}) {
		if f.Check == "clock" && f.Verdict == sealing.Warning && strings.Contains(f.Next, "clock") {
			return
		}
	}
	t.Error("the doctor says nothing of the clock")
}

// TestWrongPINOnce: a wrong PIN is not tried again by itself.
func TestWrongPINOnce(t *testing.T) {
	t.Parallel()
	asked := 0
	folder := sealedFolder(t, place{})
	boot, err := seal.LoadBootstrap(folder)
	must(t, err)
	boot.PINSource = "prompt"
	must(t, boot.Write(folder))
	_, err = server.Open(t.Context(), folder, server.Options{PIN: func(string) (secret.Secret, error) { asked++; return secret.New([]byte("wrong")), nil }})
	if !errors.Is(err, seal.PIN) || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}
