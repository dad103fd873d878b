package pcsc

import (
	"fmt"
	"time"
)

// system, session and handle are what this package uses of PC/SC. Errors of the
// service are a code. A session is used by one goroutine at a time, except for cancel.
type system interface {
	establish() (session, error)
}

type session interface {
	listReaders() ([]string, error)
	// statusChange waits until one of the slots differs from its current state, at
	// most for the timeout (then codeTimeout), and fills in event and atr.
	statusChange(slots []slot, timeout time.Duration) error
	cancel() error // ends a statusChange that waits at this moment
	connect(reader string) (handle, error)
	release() error
}

type handle interface {
	protocol() protocol
	status() (atr []byte, err error)
	transmit(cmd []byte) ([]byte, error)
	reconnect() error // resets the card
	disconnect() error
}

// slot is a reader's state as last seen, and as it is.
type slot struct {
	name    string
	current flags
	event   flags
	atr     []byte
}

// flags are the state bits of SCARD_READERSTATE (PC/SC part 5, §3.1.3); the upper
// 16 bits count insertions and removals.
type flags uint32

const (
	flagChanged     flags = 0x0002
	flagUnknown     flags = 0x0004
	flagUnavailable flags = 0x0008
	flagEmpty       flags = 0x0010
	flagPresent     flags = 0x0020
	flagExclusive   flags = 0x0080
	flagMute        flags = 0x0200
)

func (f flags) state() ReaderState {
	switch {
	case f&flagMute != 0:
		return Mute
	case f&flagPresent != 0 && f&flagExclusive != 0:
		return InUse
	case f&flagPresent != 0:
		return Present
	case f&flagEmpty != 0:
		return Empty
	}
	return Unavailable
}

// count is how many insertions and removals there have been, modulo 65536.
func (f flags) count() uint32 { return uint32(f >> 16) }

// protocol is the transmission protocol between reader and card.
type protocol uint32

const (
	protocolT0 protocol = 1
	protocolT1 protocol = 2
)

func (p protocol) check() error {
	if p != protocolT0 && p != protocolT1 {
		return fmt.Errorf("card and reader speak protocol %d, want T=0 (1) or T=1 (2)", uint32(p))
	}
	return nil
}

// notification is the name under which the service reports readers that come and go.
const notification = `\\?PnP?\Notification`
