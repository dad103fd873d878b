//go:build unix

package pgtest

import (
	"io"
	"os/exec"
	"syscall"
)

// clean waits until nobody is left who could write to it; then it ends the server
// of the folder $1 and removes the folder.
const clean = `cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
[ -z "$pid" ] || kill -QUIT "$pid" 2>/dev/null
while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
rm -rf "$1"`

// janitor is a process that cleans up when this one has ended, whatever ended it.
type janitor struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func newJanitor(dir string) (*janitor, error) {
	cmd := exec.Command("/bin/sh", "-c", clean, "janitor", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &janitor{cmd, stdin}, cmd.Start()
}

// end has it clean up now.
func (j *janitor) end() error {
	j.stdin.Close()
	return j.cmd.Wait()
}
