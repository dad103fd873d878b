package wire

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"inkan/apdu/secret"
	"inkan/tps/auth"
)

// maxFormFields bounds the questions of an extended login and its answers.
const maxFormFields = 32

func (m BeginOp) write(w *fieldWriter) {
	w.int("operation", int(m.Operation))
	if len(m.Extensions) == 0 {
		return
	}
	list, err := m.Extensions.join()
	if err != nil {
		w.err = err
		return
	}
	w.text("extensions", list)
}

func (m LoginRequest) write(w *fieldWriter) {
	w.flag("invalid_pw", m.Invalid)
	w.flag("blocked", m.Blocked)
}

func (m LoginResponse) write(w *fieldWriter) {
	w.text("screen_name", m.ScreenName.Bytes())
	w.text("password", m.Password.Bytes())
}

func (m ExtendedLoginRequest) write(w *fieldWriter) {
	w.flag("invalid_pw", m.Form.Invalid)
	w.flag("blocked", m.Form.Blocked)
	w.form("title", plain(m.Form.Title))
	w.form("description", plain(m.Form.Description))
	if len(m.Form.Fields) > maxFormFields {
		w.err = fmt.Errorf("form of %d fields, at most %d", len(m.Form.Fields), maxFormFields)
		return
	}
	for i, f := range m.Form.Fields {
		kind := "string"
		if f.Secret {
			kind = "password"
		}
		name := cmp.Or(f.Name, f.ID) // never another text's place: DEF-63, DEF-64
		w.form("required_parameter"+strconv.Itoa(i), "id="+plain(f.ID)+"&name="+plain(name)+
			"&desc="+plain(cmp.Or(f.Description, name))+"&type="+kind+"&option=")
	}
}

// plain replaces the two characters that break ESC's login dialog (§7).
func plain(s string) string { return strings.NewReplacer("&", "+", "=", ":").Replace(s) }

func (m ExtendedLoginResponse) write(w *fieldWriter) {
	for _, a := range m.Answers {
		if a.ID == "" || a.ID == "msg_type" {
			w.err = fmt.Errorf("answer named %q cannot be written", a.ID)
			return
		}
		w.text(string(appendEscaped(nil, []byte(a.ID), escapeText)), a.Value.Bytes())
	}
}

func (m TokenPDURequest) write(w *fieldWriter)  { w.pdu(m.APDU) }
func (m TokenPDUResponse) write(w *fieldWriter) { w.pdu(m.APDU) }

func (m NewPINRequest) write(w *fieldWriter) {
	w.int("minimum_length", m.Min)
	w.int("maximum_length", m.Max)
}

// write sends the PIN raw: no server of this protocol decodes it (§3).
func (m NewPINResponse) write(w *fieldWriter) {
	if w.err = checkPIN(m.PIN); w.err == nil {
		w.raw("new_pin", m.PIN.Bytes())
	}
}

// CheckPIN refuses a PIN that the protocol cannot carry: & and = cut it on the
// wire, line ends break the clients' chunk readers (§3, §15). Length and kinds of
// characters are the profile's business, on the server.
func CheckPIN(p secret.PIN) error { return checkPIN(p.Secret) }

func checkPIN(p secret.Secret) error {
	if p.IsZero() || bytes.ContainsAny(p.Bytes(), "&=\r\n") {
		return fmt.Errorf("%w: it is empty or contains &, = or a line end", ErrPIN)
	}
	return nil
}

func (m EndOp) write(w *fieldWriter) {
	w.int("operation", int(m.Operation))
	w.flag("result", m.Status != 0)
	w.int("message", m.Status)
}

func (m StatusUpdateRequest) write(w *fieldWriter) {
	w.int("current_state", m.Percent)
	if strings.ContainsAny(m.Task, "&=\r\n") {
		w.err = fmt.Errorf("task name cannot be written")
		return
	}
	w.raw("next_task_name", []byte(m.Task))
}

func (m StatusUpdateResponse) write(w *fieldWriter) { w.int("current_state", m.Percent) }

// message decodes the parameters of a type.
func (r *fieldReader) message(t Type) Message {
	switch t {
	case TypeBeginOp:
		ext, _ := r.get("extensions")
		return BeginOp{Operation: Operation(r.int("operation")), Extensions: parseExtensions(ext)}
	case TypeLoginRequest:
		return LoginRequest{Invalid: r.int("invalid_pw") != 0, Blocked: r.int("blocked") != 0}
	case TypeLoginResponse:
		return LoginResponse{ScreenName: r.credential("screen_name", "UID"), Password: r.credential("password", "PASSWORD")}
	case TypeTokenPDURequest:
		return TokenPDURequest{APDU: r.pdu()}
	case TypeTokenPDUResponse:
		return TokenPDUResponse{APDU: r.pdu()}
	case TypeNewPINRequest:
		return NewPINRequest{Min: r.int("minimum_length"), Max: r.int("maximum_length")}
	case TypeNewPINResponse:
		v, _ := r.get("new_pin")
		return NewPINResponse{PIN: secret.New(bytes.Clone(v))}
	case TypeEndOp:
		return r.endOp()
	case TypeStatusUpdateRequest:
		return r.progress()
	case TypeStatusUpdateResponse:
		return StatusUpdateResponse{Percent: r.int("current_state")}
	case TypeExtendedLoginRequest:
		return r.extendedLoginRequest()
	case TypeExtendedLoginResponse:
		return r.extendedLoginResponse()
	case TypeTokenPDUBatchRequest:
		return r.batchRequest()
	case TypeTokenPDUBatchResponse:
		return r.batchResponse()
	case TypeDryRunRequest:
		return r.dryRunRequest()
	case TypeDryRunResponse:
		return DryRunResponse{}
	}
	r.fail("unsupported message type")
	return nil
}

func (r *fieldReader) progress() StatusUpdateRequest {
	task, _ := r.get("next_task_name")
	return StatusUpdateRequest{Percent: r.int("current_state"), Task: string(task)}
}

// credential returns the value of the first name that is present (§15.8).
func (r *fieldReader) credential(names ...string) secret.Secret {
	for _, n := range names {
		if v, ok := r.get(n); ok {
			b, _ := unescape(v, false)
			return secret.New(b)
		}
	}
	return secret.Secret{}
}

// endOp reads END_OP. An error without a code is the unclassified one.
func (r *fieldReader) endOp() Message {
	m := EndOp{Operation: Operation(r.int("operation")), Status: r.int("message")}
	switch result := r.needInt("result"); {
	case result == 0:
		m.Status = 0
	case m.Status == 0:
		m.Status = statusInternal
	}
	return m
}

func (r *fieldReader) form(name string) (string, bool) {
	v, ok := r.get(name)
	b, _ := unescape(v, false)
	return strings.ToValidUTF8(string(b), "\uFFFD"), ok
}

func (r *fieldReader) extendedLoginRequest() Message {
	f := auth.Form{Invalid: r.int("invalid_pw") != 0, Blocked: r.int("blocked") != 0}
	f.Title, _ = r.form("title")
	f.Description, _ = r.form("description")
	for i := 0; ; i++ {
		v, ok := r.form("required_parameter" + strconv.Itoa(i))
		if !ok {
			return ExtendedLoginRequest{Form: f}
		}
		if i == maxFormFields {
			r.fail("more than %d required parameters", maxFormFields)
			return nil
		}
		inner := splitFields([]byte(v))
		id, _ := inner.get("id")
		name, _ := inner.get("name")
		desc, _ := inner.get("desc")
		kind, _ := inner.get("type")
		if len(id) == 0 {
			r.fail("required_parameter%d has no id", i)
			return nil
		}
		f.Fields = append(f.Fields, auth.Field{ID: string(id), Name: string(name), Description: string(desc),
			Secret: string(kind) == "password"})
	}
}

// extendedLoginResponse keeps every named value: all requested ids travel (§7).
func (r *fieldReader) extendedLoginResponse() Message {
	var m ExtendedLoginResponse
	for _, f := range r.fields {
		if string(f.name) == "msg_type" {
			continue
		}
		if len(m.Answers) == maxFormFields {
			r.fail("more than %d answers", maxFormFields)
			return nil
		}
		id, _ := unescape(f.name, false)
		v, _ := unescape(f.value, false)
		m.Answers = append(m.Answers, Answer{ID: string(id), Value: secret.New(v)})
	}
	return m
}
