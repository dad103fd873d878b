//go:build unix

package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tpsClient speaks the protocol as Dogtag's tpsclient does (tps-protocol §1, §3,
// §14): plain TCP, one chunk per message, credentials as they are, extensions
// joined by %%26. It is stricter in what it takes: what the real one only
// survives by luck is an error here.
type tpsClient struct {
	address string
	path    string // default /nk_service
	token   *softToken
	user    string
	pass    string
	pin     string
	// extensions k=v, as the script gives them
	extensions []string
	tasks      []string // of the status updates
	types      []int    // of the messages that the server sent
}

// maxClientChunk is how much the real one takes without damage (§1.5).
const maxClientChunk = 2045

// result is END_OP. A real client would call any end a success (§12.3).
type result struct{ operation, result, status int }

// run runs one operation; an error means that the conversation broke.
func (c *tpsClient) run(t *testing.T, operation int) (result, error) {
	t.Helper()
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return result{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	path := c.path
	if path == "" {
		path = "/nk_service"
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n", path, c.address)
	begin := fmt.Sprintf("msg_type=2&operation=%d", operation)
	if len(c.extensions) > 0 {
		begin += "&extensions=" + strings.NewReplacer("/", "%2F", "=", "%3D", "+", "%2B", " ", "+").Replace(strings.Join(c.extensions, "%%26"))
	}
	if err := sendMessage(conn, begin); err != nil {
		return result{}, err
	}
	br := bufio.NewReader(conn)
	if err := readHead(br); err != nil {
		return result{}, err
	}
	for {
		m, err := readMessage(br)
		if err != nil {
			return result{}, err
		}
		kind, err := strconv.Atoi(m["msg_type"])
		if err != nil {
			return result{}, err
		}
		c.types = append(c.types, kind)
		if kind == 13 {
			return endOf(br, m)
		}
		answer, err := c.answer(kind, m)
		if err == nil {
			err = sendMessage(conn, answer)
		}
		if err != nil {
			return result{}, err
		}
	}
}

// answer is the client's message to one of the server's.
func (c *tpsClient) answer(kind int, m map[string]string) (string, error) {
	switch kind {
	case 3, 16:
		return fmt.Sprintf("msg_type=%d&screen_name=%s&password=%s", kind+1, c.user, c.pass), nil
	case 9:
		cmd, err := unescape(m["pdu_data"])
		if err != nil {
			return "", err
		}
		if m["pdu_size"] != strconv.Itoa(len(cmd)) {
			return "", fmt.Errorf("pdu_size %s of %d bytes", m["pdu_size"], len(cmd))
		}
		answer, err := c.token.transmit(cmd)
		return fmt.Sprintf("msg_type=10&pdu_data=%s&pdu_size=%d", escape(answer), len(answer)), err
	case 11:
		return "msg_type=12&new_pin=" + c.pin, nil
	case 14:
		c.tasks = append(c.tasks, m["next_task_name"])
		return "msg_type=15&current_state=" + m["current_state"], nil
	}
	return "", fmt.Errorf("%w to message %d", errLeft, kind)
}

// sendMessage writes one message in one chunk, and never the terminal one.
func sendMessage(w io.Writer, body string) error {
	frame := fmt.Sprintf("s=%d&%s", len(body), body)
	_, err := fmt.Fprintf(w, "%x\r\n%s\r\n", len(frame), frame)
	return err
}

// readHead skips the response head, whatever it says.
func readHead(br *bufio.Reader) error {
	for {
		l, err := br.ReadString('\n')
		if err != nil || l == "\r\n" {
			return err
		}
	}
}

// readMessage reads one chunk, which is one message.
func readMessage(br *bufio.Reader) (map[string]string, error) {
	l, err := br.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(l, "\r\n"), 16, 16)
	if err != nil || n > maxClientChunk {
		return nil, fmt.Errorf("chunk size line %q: %w", l, err)
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(br, b); err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	text := string(b[:n])
	if strings.Count(text, "msg_type=") != 1 {
		return nil, fmt.Errorf("chunk %q is not one message", text)
	}
	m := map[string]string{}
	for pair := range strings.SplitSeq(text, "&") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			m[name] = value
		}
	}
	return m, nil
}

// endOf reads on to the end of the stream, as the Java front end does (§14.8).
func endOf(br *bufio.Reader, m map[string]string) (result, error) {
	var r result
	var errs [3]error
	r.operation, errs[0] = strconv.Atoi(m["operation"])
	r.result, errs[1] = strconv.Atoi(m["result"])
	r.status, errs[2] = strconv.Atoi(m["message"])
	if err := errors.Join(errs[:]...); err != nil {
		return r, err
	}
	rest, err := io.ReadAll(br)
	if err != nil || string(rest) != "0\r\n\r\n" {
		return r, fmt.Errorf("behind END_OP %q, %v; want the terminal chunk and the end", rest, err)
	}
	return r, nil
}

// escape leaves letters and digits.
func escape(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
			s.WriteByte(c)
		case c == ' ':
			s.WriteByte('+')
		default:
			fmt.Fprintf(&s, "%%%02X", c)
		}
	}
	return s.String()
}

// unescape takes what the real one reads right: hexadecimal in upper case.
func unescape(s string) ([]byte, error) {
	var b []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] != '%':
			b = append(b, s[i])
		case i+2 >= len(s) || strings.ToUpper(s[i:i+3]) != s[i:i+3]:
			return nil, fmt.Errorf("pdu_data %q", s)
		default:
			v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return nil, err
			}
			b, i = append(b, byte(v)), i+2
		}
	}
	return b, nil
}
