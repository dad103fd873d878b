package wire

import (
	"fmt"
	"strconv"
	"strings"

	"inkan/apdu/secret"
	"inkan/tps/auth"
)

// Type is a message's msg_type (§4).
type Type int

// Message types. 5 to 8 (SecurID, challenge question) are not supported.
const (
	TypeBeginOp               Type = 2
	TypeLoginRequest          Type = 3
	TypeLoginResponse         Type = 4
	TypeTokenPDURequest       Type = 9
	TypeTokenPDUResponse      Type = 10
	TypeNewPINRequest         Type = 11
	TypeNewPINResponse        Type = 12
	TypeEndOp                 Type = 13
	TypeStatusUpdateRequest   Type = 14
	TypeStatusUpdateResponse  Type = 15
	TypeExtendedLoginRequest  Type = 16
	TypeExtendedLoginResponse Type = 17

	// Ours (design.md §4): only between programs that negotiated pduBatch.
	TypeTokenPDUBatchRequest  Type = 32
	TypeTokenPDUBatchResponse Type = 33

	// Ours: only where the client asked for a dry run.
	TypeDryRunRequest  Type = 34
	TypeDryRunResponse Type = 35
)

// String is the name the protocol description uses.
func (t Type) String() string {
	names := [...]string{"UNDEFINED", "ERROR", "BEGIN_OP", "LOGIN_REQUEST", "LOGIN_RESPONSE",
		"SECUREID_REQUEST", "SECUREID_RESPONSE", "ASQ_REQUEST", "ASQ_RESPONSE",
		"TOKEN_PDU_REQUEST", "TOKEN_PDU_RESPONSE", "NEW_PIN_REQUEST", "NEW_PIN_RESPONSE", "END_OP",
		"STATUS_UPDATE_REQUEST", "STATUS_UPDATE_RESPONSE", "EXTENDED_LOGIN_REQUEST", "EXTENDED_LOGIN_RESPONSE"}
	switch {
	case t >= 0 && int(t) < len(names):
		return names[t]
	case t == TypeTokenPDUBatchRequest:
		return "TOKEN_PDU_BATCH_REQUEST"
	case t == TypeTokenPDUBatchResponse:
		return "TOKEN_PDU_BATCH_RESPONSE"
	case t == TypeDryRunRequest:
		return "DRY_RUN_REQUEST"
	case t == TypeDryRunResponse:
		return "DRY_RUN_RESPONSE"
	}
	return "message type " + strconv.Itoa(int(t))
}

// Message is one message of the protocol. String never shows what a card or a
// person said: no PDU, no login, no PIN.
type Message interface {
	Type() Type
	String() string
	write(w *fieldWriter)
}

// BeginOp opens the conversation (client to server).
type BeginOp struct {
	Operation  Operation // as requested: may be invalid
	Extensions Extensions
}

// LoginRequest asks for user name and password.
type LoginRequest struct{ Invalid, Blocked bool }

// LoginResponse answers a LoginRequest.
type LoginResponse struct{ ScreenName, Password secret.Secret }

// ExtendedLoginRequest asks for any number of named answers.
type ExtendedLoginRequest struct{ Form auth.Form }

// ExtendedLoginResponse answers an ExtendedLoginRequest, in its order.
type ExtendedLoginResponse struct{ Answers []Answer }

// Answer is one answer of an extended login.
type Answer struct {
	ID    string
	Value secret.Secret
}

// TokenPDURequest carries a command APDU to the card.
type TokenPDURequest struct{ APDU []byte }

// TokenPDUResponse carries the card's response: data, SW1, SW2.
type TokenPDUResponse struct{ APDU []byte }

// NewPINRequest asks for a new PIN; lengths in bytes.
type NewPINRequest struct{ Min, Max int }

// NewPINResponse answers a NewPINRequest. The PIN is as it came, perhaps empty.
type NewPINResponse struct{ PIN secret.Secret }

// EndOp ends the conversation (server to client). Status is the code of §9.
type EndOp struct {
	Operation Operation // as requested
	Status    int       // 0 is success
}

// StatusUpdateRequest reports progress: percent and the step that begins.
type StatusUpdateRequest struct {
	Percent int
	Task    string
}

// StatusUpdateResponse acknowledges a StatusUpdateRequest.
type StatusUpdateResponse struct{ Percent int }

// Type implements Message.
func (BeginOp) Type() Type { return TypeBeginOp }

// Type implements Message.
func (LoginRequest) Type() Type { return TypeLoginRequest }

// Type implements Message.
func (LoginResponse) Type() Type { return TypeLoginResponse }

// Type implements Message.
func (ExtendedLoginRequest) Type() Type { return TypeExtendedLoginRequest }

// Type implements Message.
func (ExtendedLoginResponse) Type() Type { return TypeExtendedLoginResponse }

// Type implements Message.
func (TokenPDURequest) Type() Type { return TypeTokenPDURequest }

// Type implements Message.
func (TokenPDUResponse) Type() Type { return TypeTokenPDUResponse }

// Type implements Message.
func (NewPINRequest) Type() Type { return TypeNewPINRequest }

// Type implements Message.
func (NewPINResponse) Type() Type { return TypeNewPINResponse }

// Type implements Message.
func (EndOp) Type() Type { return TypeEndOp }

// Type implements Message.
func (StatusUpdateRequest) Type() Type { return TypeStatusUpdateRequest }

// Type implements Message.
func (StatusUpdateResponse) Type() Type { return TypeStatusUpdateResponse }

// String names operation and extensions.
func (m BeginOp) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %v", m.Type(), m.Operation)
	for _, x := range m.Extensions {
		fmt.Fprintf(&b, " %q=%q", x.Name, x.Value)
	}
	return b.String()
}

// String shows the flags.
func (m LoginRequest) String() string {
	return fmt.Sprintf("%v invalid=%t blocked=%t", m.Type(), m.Invalid, m.Blocked)
}

// String shows the type only.
func (m LoginResponse) String() string { return m.Type().String() + " [redacted]" }

// String shows the flags and the number of questions.
func (m ExtendedLoginRequest) String() string {
	return fmt.Sprintf("%v invalid=%t blocked=%t fields=%d", m.Type(), m.Form.Invalid, m.Form.Blocked, len(m.Form.Fields))
}

// String shows the number of answers.
func (m ExtendedLoginResponse) String() string {
	return fmt.Sprintf("%v answers=%d [redacted]", m.Type(), len(m.Answers))
}

// String shows the length only.
func (m TokenPDURequest) String() string { return fmt.Sprintf("%v len=%d", m.Type(), len(m.APDU)) }

// GoString is String.
func (m TokenPDURequest) GoString() string { return m.String() }

// String shows the length only.
func (m TokenPDUResponse) String() string { return fmt.Sprintf("%v len=%d", m.Type(), len(m.APDU)) }

// GoString is String.
func (m TokenPDUResponse) GoString() string { return m.String() }

// String shows the limits.
func (m NewPINRequest) String() string {
	return fmt.Sprintf("%v min=%d max=%d", m.Type(), m.Min, m.Max)
}

// String shows the type only.
func (m NewPINResponse) String() string { return m.Type().String() + " [redacted]" }

// String shows operation and status.
func (m EndOp) String() string {
	return fmt.Sprintf("%v %v status=%d", m.Type(), m.Operation, m.Status)
}

// String shows percent and task.
func (m StatusUpdateRequest) String() string {
	return fmt.Sprintf("%v percent=%d task=%q", m.Type(), m.Percent, m.Task)
}

// String shows the percent.
func (m StatusUpdateResponse) String() string {
	return fmt.Sprintf("%v percent=%d", m.Type(), m.Percent)
}
