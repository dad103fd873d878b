package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

func sec(s string) secret.Secret { return secret.New([]byte(s)) }

// reveal prints a message with all its contents, for comparison.
func reveal(m wire.Message) string {
	switch m := m.(type) {
	case wire.LoginResponse:
		return fmt.Sprintf("login %q %q", m.ScreenName.Bytes(), m.Password.Bytes())
	case wire.ExtendedLoginRequest:
		return fmt.Sprintf("form %+v", m.Form)
	case wire.ExtendedLoginResponse:
		s := "answers"
		for _, a := range m.Answers {
			s += fmt.Sprintf(" %q=%q", a.ID, a.Value.Bytes())
		}
		return s
	case wire.TokenPDURequest:
		return fmt.Sprintf("command %X", m.APDU)
	case wire.TokenPDUResponse:
		return fmt.Sprintf("response %X", m.APDU)
	case wire.TokenPDUBatchRequest:
		s := "commands"
		for _, f := range m.Frames {
			s += fmt.Sprintf(" %X anyway=%t", f.Cmd, f.Anyway)
		}
		if m.Progress != nil {
			s += " " + m.Progress.String()
		}
		return s
	case wire.TokenPDUBatchResponse:
		return fmt.Sprintf("responses %X", m.APDUs)
	case wire.DryRunRequest:
		return fmt.Sprintf("dry run %q", m.Report)
	case wire.NewPINResponse:
		return fmt.Sprintf("pin %q", m.PIN.Bytes())
	}
	return m.String()
}

// vectors are the exact messages of tps-protocol.md §4 and §6. Ours says that our
// encoder writes the same bytes.
var vectors = []struct {
	name, frame string
	want        wire.Message
	ours        bool
}{
	{"begin", "s=22&msg_type=2&operation=1", wire.BeginOp{Operation: wire.Enroll}, true},
	{"begin esc", "s=204&msg_type=2&operation=5&extensions=tokenType%3DuserKey%26clientVersion%3DESC+1%2E0%2E1%26tokenATR%3D3BFF1400FF8131FE458025A00000005657534336353003003B%26statusUpdate%3Dtrue%26extendedLoginRequest%3Dtrue%26",
		wire.BeginOp{Operation: wire.Format, Extensions: wire.Extensions{{"tokenType", "userKey"}, {"clientVersion", "ESC 1.0.1"},
			{"tokenATR", "3BFF1400FF8131FE458025A00000005657534336353003003B"}, {"statusUpdate", "true"}, {"extendedLoginRequest", "true"}}}, false},
	{"begin esc pin reset", "s=138&msg_type=2&operation=3&extensions=clientVersion%3DESC+1%2E0%2E1%26tokenATR%3D3BFF14%26statusUpdate%3Dtrue%26extendedLoginRequest%3Dtrue%26",
		wire.BeginOp{Operation: wire.ResetPIN, Extensions: wire.Extensions{{"clientVersion", "ESC 1.0.1"}, {"tokenATR", "3BFF14"},
			{"statusUpdate", "true"}, {"extendedLoginRequest", "true"}}}, false},
	{"begin tpsclient", "s=157&msg_type=2&operation=1&extensions=statusUpdate%3Dtrue%%26tokenType%3DuserKey%%26clientVersion%3DESC%2F1.0%%26tokenATR%3D3BFF14%%26extendedLoginRequest%3Dtrue",
		wire.BeginOp{Operation: wire.Enroll, Extensions: wire.Extensions{{"statusUpdate", "true"}, {"tokenType", "userKey"},
			{"clientVersion", "ESC/1.0"}, {"tokenATR", "3BFF14"}, {"extendedLoginRequest", "true"}}}, false},
	{"begin one extension", "s=53&msg_type=2&operation=1&extensions=tokenType%3DuserKey",
		wire.BeginOp{Operation: wire.Enroll, Extensions: wire.Extensions{{"tokenType", "userKey"}}}, true},
	{"login request", "s=33&msg_type=3&invalid_pw=0&blocked=0", wire.LoginRequest{}, true},
	{"login response esc", "s=47&msg_type=4&screen_name=j%2Edoe&password=p+w%261",
		wire.LoginResponse{ScreenName: sec("j.doe"), Password: sec("p w&1")}, true},
	{"pdu request", "s=46&msg_type=9&pdu_size=5&pdu_data=%80%CA%9F%7F%2D", wire.TokenPDURequest{APDU: []byte{0x80, 0xCA, 0x9F, 0x7F, 0x2D}}, true},
	{"pdu request select", "s=74&msg_type=9&pdu_size=14&pdu_data=%00%A4%04%00%08%A0%00%00%00%03%00%00%00%00",
		wire.TokenPDURequest{APDU: []byte{0, 0xA4, 4, 0, 8, 0xA0, 0, 0, 0, 3, 0, 0, 0, 0}}, true},
	{"pdu response tpsclient", "s=38&msg_type=10&pdu_data=%90%00&pdu_size=2", wire.TokenPDUResponse{APDU: []byte{0x90, 0}}, false},
	{"pdu response esc", "s=38&msg_type=10&pdu_size=2&pdu_data=%90%00", wire.TokenPDUResponse{APDU: []byte{0x90, 0}}, true},
	{"pdu response mixed", "s=36&msg_type=10&pdu_data=j%82&pdu_size=2", wire.TokenPDUResponse{APDU: []byte{0x6A, 0x82}}, false},
	{"pin request", "s=46&msg_type=11&minimum_length=4&maximum_length=10", wire.NewPINRequest{Min: 4, Max: 10}, true},
	{"pin response", "s=26&msg_type=12&new_pin=482915", wire.NewPINResponse{PIN: sec("482915")}, true},
	{"end good", "s=42&msg_type=13&operation=5&result=0&message=0", wire.EndOp{Operation: wire.Format}, true},
	{"end bad", "s=43&msg_type=13&operation=1&result=1&message=14", wire.EndOp{Operation: wire.Enroll, Status: 14}, true},
	{"status", "s=67&msg_type=14&current_state=15&next_task_name=PROGRESS_KEY_GENERATION",
		wire.StatusUpdateRequest{Percent: 15, Task: "PROGRESS_KEY_GENERATION"}, true},
	{"status response", "s=28&msg_type=15&current_state=15", wire.StatusUpdateResponse{Percent: 15}, true},
	{"extended login", "s=308&msg_type=16&invalid_pw=0&blocked=0&title=Corporate+login&description=Use+your+directory+account.&required_parameter0=id%3DUID%26name%3DLogin+name%26desc%3DDirectory+login%26type%3Dstring%26option%3D&required_parameter1=id%3DPASSWORD%26name%3DPassword%26desc%3DDirectory+password%26type%3Dpassword%26option%3D",
		wire.ExtendedLoginRequest{Form: loginForm}, true},
	{"extended login response esc", "s=40&msg_type=17&UID=j%2Edoe&PASSWORD=p+w%261",
		wire.ExtendedLoginResponse{Answers: []wire.Answer{{"UID", sec("j.doe")}, {"PASSWORD", sec("p w&1")}}}, true},
	{"extended login response tpsclient", "s=38&msg_type=17&screen_name=u1&password=p1",
		wire.ExtendedLoginResponse{Answers: []wire.Answer{{"screen_name", sec("u1")}, {"password", sec("p1")}}}, false},
	// Batches (design.md §4).
	{"batch request", "s=53&msg_type=32&pdu_count=2&pdu_data=AAAFgMqffy0BAASEUgAA", wire.TokenPDUBatchRequest{Frames: []apdu.Frame{
		{Cmd: []byte{0x80, 0xCA, 0x9F, 0x7F, 0x2D}}, {Cmd: []byte{0x84, 0x52, 0, 0}, Anyway: true}}}, true},
	{"batch request with progress", "s=81&msg_type=32&pdu_count=1&pdu_data=AAAEhFIAAA&current_state=40&next_task_name=WRITE",
		wire.TokenPDUBatchRequest{Frames: []apdu.Frame{{Cmd: []byte{0x84, 0x52, 0, 0}}}, Progress: &wire.StatusUpdateRequest{Percent: 40, Task: "WRITE"}}, true},
	{"batch response", "s=45&msg_type=33&pdu_count=2&pdu_data=AAKQAAADYWqC", wire.TokenPDUBatchResponse{APDUs: [][]byte{{0x90, 0}, {'a', 0x6A, 0x82}}}, true},
	{"dry run", "s=11&msg_type=34", wire.DryRunRequest{}, true},
	{"dry run report", "s=25&msg_type=34&report=e30K_w", wire.DryRunRequest{Report: []byte("{}\n\xFF")}, true},
	{"dry run response", "s=11&msg_type=35", wire.DryRunResponse{}, true},
	// Tolerance (§15.5, §3).
	{"pdu lower case", "s=44&msg_type=10&pdu_size=4&pdu_data=%6a%AfA+%90", wire.TokenPDUResponse{}, false},
	{"password raw percent", "s=43&msg_type=4&screen_name=u&password=50%&extra=", wire.LoginResponse{ScreenName: sec("u"), Password: sec("50%")}, false},
	{"login by extended names", "s=34&msg_type=4&UID=u&PASSWORD=p&UID=u2", wire.LoginResponse{ScreenName: sec("u2"), Password: sec("p")}, false},
	{"extensions odd", "s=78&msg_type=2&operation=3&extensions=a%26b%3D%26%26c%3Dd%3De%26tokenType%3D(null)", wire.BeginOp{Operation: wire.ResetPIN, Extensions: wire.Extensions{{"c", "d=e"}}}, false},
	{"operation absent", "s=10&msg_type=2", wire.BeginOp{}, false},
	{"pin verbatim", "s=24&new_pin=1%2+3&msg_type=12", wire.NewPINResponse{PIN: sec("1%2+3")}, false},
	{"end without code", "s=42&msg_type=13&operation=2&result=1&message=0", wire.EndOp{Operation: wire.Unblock, Status: 1}, false},
}

// framed corrects the length of a hand-written frame.
func framed(frame string) string {
	_, body, _ := strings.Cut(frame, "&")
	return fmt.Sprintf("s=%d&%s", len(body), body)
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		t.Run("message="+v.name, func(t *testing.T) {
			frame := framed(v.frame)
			if v.ours && frame != v.frame {
				t.Fatalf("the vector's length is wrong: %s", frame)
			}
			want := v.want
			if v.name == "pdu lower case" {
				frame, want = framed("s=0&msg_type=10&pdu_size=5&pdu_data=%6a%AfA+%90"), wire.TokenPDUResponse{APDU: []byte{0x6A, 0xAF, 'A', ' ', 0x90}}
			}
			// A stream that comes byte by byte.
			m, err := wire.NewReader(iotest.OneByteReader(strings.NewReader(frame)), 0).Read()
			if err != nil {
				t.Fatal(err)
			}
			if got := reveal(m); got != reveal(want) {
				t.Errorf("got  %s\nwant %s", got, reveal(want))
			}
			if b, err := wire.Encode(want); v.ours && (err != nil || string(b) != v.frame) {
				t.Errorf("encoded %q, %v\nwant    %q", b, err, v.frame)
			}
		})
	}
}

func TestReaderStreams(t *testing.T) {
	t.Parallel()
	r := wire.NewReader(strings.NewReader("s=22&msg_type=2&operation=1s=28&msg_type=15&current_state=15"), 0)
	for _, want := range []string{"BEGIN_OP enroll", "STATUS_UPDATE_RESPONSE percent=15"} {
		m, err := r.Read()
		if err != nil || m.String() != want {
			t.Fatalf("got %v, %v, want %s", m, err, want)
		}
	}
	if _, err := r.Read(); err != io.EOF {
		t.Errorf("after the last message: %v, want EOF", err)
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	long := "s=10000&" + strings.Repeat("x", 10000)
	for _, c := range []struct {
		name, in string
		limit    int
		want     error
	}{
		{"no frame", "msg_type=2", 0, wire.ErrProtocol},
		{"wrong second byte", "s:22&msg_type=2", 0, wire.ErrProtocol},
		{"no digits", "s=&msg_type=2", 0, wire.ErrProtocol},
		{"sign", "s=-1&msg_type=2", 0, wire.ErrProtocol},
		{"letters", "s=1a&msg_type=2", 0, wire.ErrProtocol},
		{"over the default limit", long, 0, wire.ErrProtocol},
		{"over a small limit", "s=11&msg_type=2&", 10, wire.ErrProtocol},
		{"huge", "s=99999999999999999999999999&", 1 << 30, wire.ErrProtocol},
		{"endless zeros", "s=" + strings.Repeat("0", 100), 0, wire.ErrProtocol},
		{"cut in the head", "s=2", 0, io.ErrUnexpectedEOF},
		{"cut behind the s", "s", 0, io.ErrUnexpectedEOF},
		{"cut in the body", "s=22&msg_type=2&oper", 0, io.ErrUnexpectedEOF},
		{"no type", framed("s=0&operation=1"), 0, wire.ErrProtocol},
		{"empty body", "s=0&", 0, wire.ErrProtocol},
		{"type not a number", framed("s=0&msg_type=two"), 0, wire.ErrProtocol},
		{"unknown type", framed("s=0&msg_type=77"), 0, wire.ErrProtocol},
		{"SecurID", framed("s=0&msg_type=6&value=1&pin=2"), 0, wire.ErrProtocol},
		{"operation not a number", framed("s=0&msg_type=2&operation=x"), 0, wire.ErrProtocol},
		{"pdu size differs", framed("s=0&msg_type=10&pdu_size=3&pdu_data=%90%00"), 0, wire.ErrProtocol},
		{"pdu size missing", framed("s=0&msg_type=10&pdu_data=%90%00"), 0, wire.ErrProtocol},
		{"pdu missing", framed("s=0&msg_type=10&pdu_size=0"), 0, wire.ErrProtocol},
		{"pdu escape cut", framed("s=0&msg_type=10&pdu_size=1&pdu_data=%9"), 0, wire.ErrProtocol},
		{"pdu escape wrong", framed("s=0&msg_type=10&pdu_size=1&pdu_data=%G0"), 0, wire.ErrProtocol},
		{"end without result", framed("s=0&msg_type=13&operation=1&message=0"), 0, wire.ErrProtocol},
		{"batch without count", framed("s=0&msg_type=32&pdu_data=AAAEhFIAAA"), 0, wire.ErrProtocol},
		{"batch without data", framed("s=0&msg_type=32&pdu_count=1"), 0, wire.ErrProtocol},
		{"batch of none", framed("s=0&msg_type=32&pdu_count=0&pdu_data="), 0, wire.ErrProtocol},
		{"batch of 257", framed("s=0&msg_type=33&pdu_count=257&pdu_data=" + strings.Repeat("AAKQ", 257)), 0, wire.ErrProtocol},
		{"batch padded", framed("s=0&msg_type=32&pdu_count=1&pdu_data=AAAEhFIAAA=="), 0, wire.ErrProtocol},
		{"batch in the other alphabet", framed("s=0&msg_type=33&pdu_count=1&pdu_data=AAOQ+/+Q"), 0, wire.ErrProtocol},
		{"batch with line end", framed("s=0&msg_type=32&pdu_count=1&pdu_data=AAAE\nhFIAAA"), 0, wire.ErrProtocol},
		{"batch with loose bits", framed("s=0&msg_type=32&pdu_count=1&pdu_data=AAAEhFIAAB"), 0, wire.ErrProtocol},
		{"batch with unknown flags", framed("s=0&msg_type=32&pdu_count=1&pdu_data=AgAEhFIAAA"), 0, wire.ErrProtocol},
		{"batch with more than counted", framed("s=0&msg_type=32&pdu_count=1&pdu_data=AAAFgMqffy0BAASEUgAA"), 0, wire.ErrProtocol},
		{"batch with less than counted", framed("s=0&msg_type=32&pdu_count=3&pdu_data=AAAFgMqffy0BAASEUgAA"), 0, wire.ErrProtocol},
		{"batch cut in a command", framed("s=0&msg_type=32&pdu_count=1&pdu_data=AAAFgMqf"), 0, wire.ErrProtocol},
		{"batch with a short command", framed("s=0&msg_type=32&pdu_count=1&pdu_data=AAADhFIA"), 0, wire.ErrProtocol},
		{"batch with a short answer", framed("s=0&msg_type=33&pdu_count=1&pdu_data=AAGQ"), 0, wire.ErrProtocol},
		{"parameter without id", framed("s=0&msg_type=16&required_parameter0=name%3Dx"), 0, wire.ErrProtocol},
		{"too many answers", framed("s=0&msg_type=17" + strings.Repeat("&a=b", 40)), 0, wire.ErrProtocol},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			m, err := wire.NewReader(strings.NewReader(c.in), c.limit).Read()
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, %v, want %v", m, err, c.want)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	many := auth.Form{Fields: make([]auth.Field, 40)}
	for name, m := range map[string]wire.Message{
		"pin ampersand":     wire.NewPINResponse{PIN: sec("12&4")},
		"pin equals":        wire.NewPINResponse{PIN: sec("12=4")},
		"pin line end":      wire.NewPINResponse{PIN: sec("1234\n")},
		"pin return":        wire.NewPINResponse{PIN: sec("12\r34")},
		"pin empty":         wire.NewPINResponse{},
		"extension &":       wire.BeginOp{Operation: 1, Extensions: wire.Extensions{{"a", "b&c=d"}}},
		"extension empty":   wire.BeginOp{Operation: 1, Extensions: wire.Extensions{{"a", ""}}},
		"extension no name": wire.BeginOp{Operation: 1, Extensions: wire.Extensions{{"", "a"}}},
		"task":              wire.StatusUpdateRequest{Task: "a&b"},
		"answer":            wire.ExtendedLoginResponse{Answers: []wire.Answer{{"msg_type", sec("2")}}},
		"batch of none":     wire.TokenPDUBatchRequest{},
		"batch too many":    wire.TokenPDUBatchResponse{APDUs: slices.Repeat([][]byte{{0x90, 0}}, 257)},
		"batch too long":    wire.TokenPDUBatchResponse{APDUs: slices.Repeat([][]byte{make([]byte, 258)}, 200)},
		"batch command":     wire.TokenPDUBatchRequest{Frames: []apdu.Frame{{Cmd: []byte{0, 0xA4, 4}}}},
		"batch answer":      wire.TokenPDUBatchResponse{APDUs: [][]byte{{0x90}}},
		"fields":            wire.ExtendedLoginRequest{Form: many},
	} {
		if b, err := wire.Encode(m); err == nil {
			t.Errorf("%s: encoded %q", name, b)
		} else {
			for _, s := range []string{"12&4", "12=4", "1234", "12\r34"} {
				if strings.Contains(err.Error(), s) {
					t.Errorf("%s: the error shows the PIN: %v", name, err)
				}
			}
		}
	}
}

func TestFormThatBreaksClients(t *testing.T) {
	t.Parallel()
	f := auth.Form{Title: "A & B = C", Fields: []auth.Field{{ID: "UID", Name: "x=y&type=password"}}}
	b, err := wire.Encode(wire.ExtendedLoginRequest{Form: f})
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.NewReader(bytes.NewReader(b), 0).Read()
	if err != nil {
		t.Fatal(err)
	}
	got := m.(wire.ExtendedLoginRequest).Form
	if got.Title != "A + B : C" || len(got.Fields) != 1 || got.Fields[0].Secret || got.Fields[0].Name != "x:y+type:password" {
		t.Errorf("form %+v", got)
	}
}

// TestDEF63: what a form does not describe is not described by its title; a
// question without a text of its own is called by its id (DEF-64).
func TestDEF63(t *testing.T) {
	t.Parallel()
	f := auth.Form{Title: "Log in", Fields: []auth.Field{
		{ID: "UID", Name: "User", Description: "Who you are"}, {ID: "PASSWORD", Name: "Password", Secret: true}, {ID: "OTP"},
	}}
	b, err := wire.Encode(wire.ExtendedLoginRequest{Form: f})
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.NewReader(bytes.NewReader(b), 0).Read()
	if err != nil {
		t.Fatal(err)
	}
	got := m.(wire.ExtendedLoginRequest).Form
	if got.Description != "" {
		t.Errorf("the form is described as %q", got.Description)
	}
	for i, want := range []string{"User: Who you are", "Password: Password", "OTP: OTP"} {
		if text := got.Fields[i].Name + ": " + got.Fields[i].Description; text != want {
			t.Errorf("question %d is %q, want %q", i, text, want)
		}
	}
}

func TestMessagesDoNotPrintSecrets(t *testing.T) {
	t.Parallel()
	const word = "hunter2hunter2"
	for _, m := range []wire.Message{
		wire.LoginResponse{ScreenName: sec(word), Password: sec(word)},
		wire.ExtendedLoginResponse{Answers: []wire.Answer{{"UID", sec(word)}}},
		wire.NewPINResponse{PIN: sec(word)},
		wire.TokenPDURequest{APDU: []byte(word)},
		wire.TokenPDUResponse{APDU: []byte(word)},
		wire.TokenPDUBatchRequest{Frames: []apdu.Frame{{Cmd: []byte(word)}}},
		wire.TokenPDUBatchResponse{APDUs: [][]byte{[]byte(word)}},
	} {
		var b bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			if _, pdus := m.(fmt.GoStringer); verb == "%d" && pdus {
				continue // numbers of a plain struct; nobody logs those
			}
			fmt.Fprintf(&b, verb, m)
			fmt.Fprintf(&b, verb, []any{m})
		}
		slog.New(slog.NewTextHandler(&b, nil)).Info("message", "m", m)
		for _, shape := range []string{word, fmt.Sprintf("%x", word), fmt.Sprintf("%d", []byte(word))} {
			if strings.Contains(b.String(), shape) {
				t.Errorf("%v prints its contents: %s", m.Type(), b.String())
			}
		}
	}
}

// A message that cannot be parsed must not be quoted in the error.
func TestErrorsDoNotQuote(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"s=0&msg_type=4&screen_name=hunter2&hunter2=%%",
		"s=0&msg_type=hunter2",
		"s=0&msg_type=10&pdu_size=hunter2&pdu_data=%",
		"s=0&msg_type=12" + strings.Repeat("hunter2", 2000),
		"hunter2",
		"s=hunter2&",
	} {
		in := in
		if strings.HasPrefix(in, "s=0&") {
			in = framed(in)
		}
		if _, err := wire.NewReader(strings.NewReader(in), 0).Read(); err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error quotes the message: %v", err)
		}
	}
}

func FuzzMessageNoPanic(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(framed(v.frame)))
	}
	f.Add([]byte("s=5&a=b&c"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewReader(bytes.NewReader(in), 0)
		for {
			m, err := r.Read()
			if err != nil {
				if m != nil {
					t.Fatalf("message %v with error %v", m, err)
				}
				return
			}
			_ = m.String()
		}
	})
}

// What was read can be written, and reads the same again; except what our own
// encoder refuses to write.
func FuzzMessageRoundTrip(f *testing.F) {
	for _, v := range vectors {
		_, body, _ := strings.Cut(v.frame, "&")
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := wire.Parse(body)
		if err != nil {
			return
		}
		frame, err := wire.Encode(m)
		if err != nil {
			return
		}
		again, err := wire.NewReader(bytes.NewReader(frame), len(frame)).Read()
		if err != nil {
			t.Fatalf("%q encoded as %q: %v", body, frame, err)
		}
		second, err := wire.Encode(again)
		if err != nil || !bytes.Equal(frame, second) {
			t.Fatalf("%q encoded as %q, then as %q (%v)", body, frame, second, err)
		}
		if m.Type() != wire.TypeExtendedLoginRequest && reveal(m) != reveal(again) {
			t.Fatalf("%s read again as %s", reveal(m), reveal(again))
		}
	})
}
