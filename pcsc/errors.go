package pcsc

import (
	"errors"
	"fmt"
	"runtime"

	"inkan/apdu"
)

// Errors that callers branch on. A card that has left its reader is
// [apdu.ErrCardRemoved].
var (
	ErrNoService = errors.New("no PC/SC service")
	ErrNoReader  = errors.New("no smart-card reader")
	// ErrReaderName means that a name fits no reader, or several; the error's text lists the readers.
	ErrReaderName = errors.New("no such reader")
	ErrNoCard     = errors.New("no card in the reader")
	ErrInUse      = errors.New("card in use by another program")
	ErrMute       = errors.New("card does not answer")
	// ErrReset means that somebody else reset the card: what was selected and
	// verified is lost. Conn.Reset begins anew.
	ErrReset = errors.New("card was reset")
)

// code is an error of the PC/SC service (PC/SC part 5, §3.3; pcsclite.h).
type code uint32

const (
	codeCancelled         code = 0x80100002
	codeInvalidHandle     code = 0x80100003
	codeUnknownReader     code = 0x80100009
	codeTimeout           code = 0x8010000A
	codeSharing           code = 0x8010000B
	codeNoCard            code = 0x8010000C
	codeProtocolMismatch  code = 0x8010000F
	codeSystemCancelled   code = 0x80100012
	codeCommunication     code = 0x80100013
	codeNotTransacted     code = 0x80100016
	codeReaderUnavailable code = 0x80100017
	codeNoService         code = 0x8010001D
	codeServiceStopped    code = 0x8010001E
	codeNoReaders         code = 0x8010002E
	codeUnsupportedCard   code = 0x80100065
	codeUnresponsive      code = 0x80100066
	codeUnpowered         code = 0x80100067
	codeReset             code = 0x80100068
	codeRemoved           code = 0x80100069
	codeAccess            code = 0x8010006A
)

// Error implements error.
func (c code) Error() string {
	if m, ok := meanings[c]; ok && m.text != "" {
		return m.text
	}
	return fmt.Sprintf("PC/SC error %08X", uint32(c))
}

// Is makes a code its sentinel.
func (c code) Is(target error) bool {
	m, ok := meanings[c]
	return ok && m.is != nil && target == m.is
}

type meaning struct {
	is   error
	text string
}

// meanings say what a code is to a caller, and what a person can do about it.
var meanings = map[code]meaning{
	codeNoService:         {ErrNoService, "no PC/SC service: " + startService[runtime.GOOS]},
	codeServiceStopped:    {ErrNoService, "PC/SC service stopped: " + startService[runtime.GOOS]},
	codeInvalidHandle:     {ErrNoService, "PC/SC service was restarted"},
	codeSystemCancelled:   {ErrNoService, "PC/SC service was shut down"},
	codeAccess:            {nil, "the system's policy refuses access to smart cards (polkit, action org.debian.pcsc-lite.access_pcsc): log in at the machine itself or change the policy"},
	codeNoReaders:         {ErrNoReader, "no smart-card reader: plug one in"},
	codeUnknownReader:     {apdu.ErrCardRemoved, "reader was unplugged"},
	codeReaderUnavailable: {apdu.ErrCardRemoved, "reader was unplugged"},
	codeRemoved:           {apdu.ErrCardRemoved, "card removed"},
	codeNoCard:            {ErrNoCard, "no card in the reader: insert one"},
	codeSharing:           {ErrInUse, "card in use by another program: close it and try again"},
	codeProtocolMismatch:  {ErrMute, "card offers no protocol that the reader can speak with it"},
	codeUnresponsive:      {ErrMute, "card does not answer: is it in the right way round?"},
	codeUnpowered:         {ErrMute, "card gets no power: take it out and insert it again"},
	codeUnsupportedCard:   {ErrMute, "reader does not understand the card's answer to reset"},
	codeReset:             {ErrReset, "card was reset by another program"},
	codeNotTransacted:     {nil, "exchange with the card failed"},
	codeCommunication:     {nil, "exchange with the card failed"},
}

// startService says how a service is had, by operating system.
var startService = map[string]string{
	"linux":   "install and start pcscd (Debian: apt install pcscd, then systemctl start pcscd.socket)",
	"windows": "plug in a reader and start the service Smart Card (sc start SCardSvr)",
	"darwin":  "plug in a reader; macOS starts the service by itself",
}

// isLost reports that the service that a session belonged to is gone.
func isLost(err error) bool {
	var c code
	return errors.As(err, &c) && (c == codeNoService || c == codeServiceStopped || c == codeInvalidHandle || c == codeSystemCancelled)
}

// explain says what was being done; nil stays nil.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
