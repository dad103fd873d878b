//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"time"

	p11 "github.com/miekg/pkcs11"
)

// PretendNoCMAC makes the present connection do without CKM_AES_CMAC.
func (t *Token) PretendNoCMAC() { t.conn.ways[opCMAC] = byCBC }

// Hang runs a call that does not come back until end is closed, in a module of its
// own, and then restarts the module. It returns both errors.
func Hang(end <-chan struct{}) (called, restarted error) {
	m := &module{path: "hanging", gen: 1}
	_, called = call(context.Background(), m, 1, 10*time.Millisecond, func(*p11.Ctx) (int, error) {
		<-end
		return 0, errors.New("came back")
	})
	return called, m.restart(1)
}
