package wire

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/auth"
)

// Prompter asks the person in front of the card. Login and NewPIN return when ctx
// is done: the server has ended the operation, or the connection is lost. Answers
// and PIN are wiped after use. Progress does not block for long.
type Prompter interface {
	Login(ctx context.Context, f auth.Form) (auth.Answers, error)
	// NewPIN asks for a PIN of min to max bytes. [CheckPIN] says what the protocol
	// cannot carry; other rules are the server's, which may ask again.
	NewPIN(ctx context.Context, min, max int) (secret.PIN, error)
	Progress(percent int, task string)
}

// Begin says what a client wants done.
type Begin struct {
	Operation     Operation
	TokenType     string   // profile wished for; "" = the server's choice
	Profile       string   // the one profile that will do; "" = any
	KeySet        string   // hint for the server's choice; usually ""
	ATR           apdu.ATR // nil = asked of the card, if it has a method ATR
	Locale        string   // of the login's texts, "" = en
	ClientVersion string   // "" = Inkan
	Ticket        bool     // the person has a ticket in place of a login
	Resume        bool     // the server may first finish an operation that was cut
	DryRun        bool     // the server is to report what it would do, and nothing is done
	Batch         int      // commands to the card per round trip, at most [MaxBatchFrames]; 0 = one (no batches offered)
}

// Result is what a successful operation was, or a dry run.
type Result struct {
	Operation Operation
	APDUs     int // commands run on the card, without local GET RESPONSE
	Trips     int // messages of the server that were answered
	Elapsed   time.Duration
	// Report is what a dry run found, as the server tells it, also beside an error: the
	// operation would be refused. Other operations have none.
	Report []byte
}

// Run carries out one operation on card: it relays APDUs from the server, asks p
// what the server asks, and returns when the server has said how it ended.
//
// Everything else than success is an *EndError, also a connection that cannot be
// made (47), that ends without END_OP (28), a card that fails (8; the error of
// the card is wrapped, ErrCardRemoved say), a person who gives no login (14) or no
// PIN (4) and a ctx that cancels (8); their errors are wrapped. An APDU is never
// sent twice. When ctx ends, the running APDU is finished first. The card belongs
// to Run until it returns, and is not closed.
func Run(ctx context.Context, cl *Client, begin Begin, card apdu.Card, p Prompter) (Result, error) {
	start := time.Now()
	c := &conversation{card: card, prompter: p, batch: min(begin.Batch, MaxBatchFrames)}
	if begin.DryRun {
		c.dry = &dryRun{}
	}
	var report []byte
	result := func() Result {
		return Result{Operation: begin.Operation, APDUs: c.apdus, Trips: c.trips, Elapsed: time.Since(start), Report: report}
	}
	fail := func(status int, err error) (Result, error) {
		return result(), &EndError{Operation: begin.Operation, Status: status, DryRun: begin.DryRun, Err: err}
	}
	l, err := cl.dial(ctx, begin.message(card))
	if err != nil {
		return fail(statusHTTPClient, err)
	}
	c.link = l
	end, err := c.run(ctx)
	l.finish(err == nil)
	if err == nil {
		report, err = c.dry.told(end)
	}
	var f *localFailure
	switch {
	case errors.As(err, &f):
		return fail(f.status, f.err)
	case err != nil:
		return fail(statusConnLost, err)
	case end.Status != 0:
		return fail(end.Status, nil)
	}
	if c.percent > 0 && c.percent < 100 { // the last report had no command to travel with: END_OP is it
		p.Progress(100, taskDone)
	}
	return result(), nil
}

// taskDone is the task of a finished operation (§8).
const taskDone = "PROGRESS_DONE"

func (b Begin) message(card apdu.Card) BeginOp {
	if b.ATR == nil {
		if c, ok := card.(interface{ ATR() apdu.ATR }); ok {
			b.ATR = c.ATR()
		}
	}
	if b.ClientVersion == "" {
		b.ClientVersion = "Inkan"
	}
	m := BeginOp{Operation: b.Operation}
	for _, x := range []Extension{
		{ExtTokenType, b.TokenType}, {ExtProfile, b.Profile}, {ExtKeySet, b.KeySet}, {ExtClientVersion, b.ClientVersion},
		{ExtTokenATR, b.ATR.String()}, {ExtLocale, b.Locale}, {ExtStatusUpdate, "true"}, {ExtExtendedLogin, "true"},
	} {
		if x.Value != "" { // an empty value kills a Dogtag session (§6)
			m.Extensions = append(m.Extensions, x)
		}
	}
	if b.Resume {
		m.Extensions = append(m.Extensions, Extension{ExtResume, "true"})
	}
	if b.DryRun {
		m.Extensions = append(m.Extensions, Extension{ExtDryRun, "true"})
	}
	if b.Ticket {
		m.Extensions = append(m.Extensions, Extension{ExtTicket, "true"})
	}
	if b.Batch > 0 {
		m.Extensions = append(m.Extensions, Extension{ExtPDUBatch, strconv.Itoa(min(b.Batch, MaxBatchFrames))})
	}
	return m
}

// localFailure is what ended a conversation on this side of it.
type localFailure struct {
	status int
	err    error
}

func (f *localFailure) Error() string { return f.err.Error() }

func local(format string, args ...any) error {
	return &localFailure{statusCannotPerform, fmt.Errorf(format, args...)}
}

// unanswered is a question to the person that got no answer: the status of the
// question, or of a cancelled operation.
func unanswered(ctx context.Context, status int, err error) error {
	if ctx.Err() != nil {
		status = statusCannotPerform
	}
	return &localFailure{status, err}
}

// conversation answers the server's messages until END_OP.
type conversation struct {
	link     *link
	card     apdu.Card
	prompter Prompter
	batch    int // largest batch offered, 0 = none
	apdus    int
	trips    int
	percent  int // last reported
	dry      *dryRun
}

func (c *conversation) run(ctx context.Context) (EndOp, error) {
	for {
		m, err := c.link.receive(ctx)
		if err != nil {
			var stop *cancelError
			if errors.As(err, &stop) {
				return EndOp{}, local("cancelled: %w", err)
			}
			return EndOp{}, err
		}
		if end, ok := m.(EndOp); ok {
			return end, nil
		}
		answer, err := c.answer(ctx, m)
		end, err := c.reply(m, answer, err)
		if end != nil {
			return *end, nil
		}
		if err != nil {
			return EndOp{}, err
		}
	}
}

// reply sends the answer to m, unless there is none (err) or the server has ended
// the operation meanwhile, which counts before everything.
func (c *conversation) reply(m, answer Message, err error) (*EndOp, error) {
	defer wipe(answer)
	early, _ := c.link.inbox.poll()
	if end, ok := early.(EndOp); ok {
		return &end, nil
	}
	if err != nil {
		return nil, err
	}
	if early != nil {
		return nil, fmt.Errorf("%w: %v before the answer to %v", ErrProtocol, early.Type(), m.Type())
	}
	c.trips++
	return nil, c.link.send(answer)
}

// wipe clears what a sent answer held.
func wipe(m Message) {
	switch m := m.(type) {
	case LoginResponse:
		m.ScreenName.Wipe()
		m.Password.Wipe()
	case ExtendedLoginResponse:
		for _, a := range m.Answers {
			a.Value.Wipe()
		}
	case NewPINResponse:
		m.PIN.Wipe()
	}
}

// answer does what the server asks.
func (c *conversation) answer(ctx context.Context, m Message) (Message, error) {
	if err := c.dry.allows(m); err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case DryRunRequest:
		return c.hear(m)
	case TokenPDURequest:
		defer clear(m.APDU)
		b, err := c.transmit(ctx, m.APDU)
		if err != nil {
			return nil, local("sending command %d to the card: %w", c.apdus, err)
		}
		return TokenPDUResponse{APDU: b}, nil
	case TokenPDUBatchRequest:
		defer m.wipe()
		return c.runBatch(ctx, m)
	case StatusUpdateRequest:
		c.progress(m)
		return StatusUpdateResponse{Percent: m.Percent}, nil
	case LoginRequest:
		a, err := c.login(ctx, plainForm(m))
		if err != nil {
			return nil, err
		}
		return LoginResponse{ScreenName: a["UID"], Password: a["PASSWORD"]}, nil
	case ExtendedLoginRequest:
		a, err := c.login(ctx, m.Form)
		if err != nil {
			return nil, err
		}
		var r ExtendedLoginResponse
		for _, f := range m.Form.Fields {
			r.Answers = append(r.Answers, Answer{ID: f.ID, Value: a[f.ID]})
		}
		return r, nil
	case NewPINRequest:
		return c.newPIN(ctx, m)
	}
	return nil, fmt.Errorf("%w: %v is not a message for a client", ErrProtocol, m.Type())
}

func (c *conversation) progress(m StatusUpdateRequest) {
	c.percent = max(0, min(m.Percent, 100))
	c.prompter.Progress(c.percent, m.Task)
}

// runBatch runs commands in order until one of them stops the batch. A card that
// fails ends the conversation as it does behind a single command, whatever ran
// before: the server plans again from what the card then shows.
func (c *conversation) runBatch(ctx context.Context, m TokenPDUBatchRequest) (Message, error) {
	if len(m.Frames) > c.batch {
		return nil, fmt.Errorf("%w: batch of %d commands, offered were %d", ErrProtocol, len(m.Frames), c.batch)
	}
	if m.Progress != nil {
		c.progress(*m.Progress)
	}
	answers, room := make([][]byte, 0, len(m.Frames)), batchRoom
	for i, f := range m.Frames {
		if err := ctx.Err(); err != nil {
			return nil, local("cancelled before command %d: %w", c.apdus+1, cancelled(ctx))
		}
		b, err := c.transmit(ctx, f.Cmd)
		if err != nil {
			return nil, local("sending command %d (%d of %d in a batch) to the card: %w", c.apdus, i+1, len(m.Frames), err)
		}
		if room -= 2 + len(b); room < 0 {
			return nil, local("command %d of a batch: the answers do not fit a message", i+1)
		}
		answers = append(answers, b)
		if stopsBatch(f, b) {
			break
		}
	}
	return TokenPDUBatchResponse{APDUs: answers}, nil
}

// plainForm is what LOGIN_REQUEST asks, as a form.
func plainForm(m LoginRequest) auth.Form {
	return auth.Form{Title: "Log in", Invalid: m.Invalid, Blocked: m.Blocked, Fields: []auth.Field{
		{ID: "UID", Name: "User name"}, {ID: "PASSWORD", Name: "Password", Secret: true}}}
}

func (c *conversation) login(ctx context.Context, f auth.Form) (auth.Answers, error) {
	asking, cancel := c.whileAsking(ctx)
	defer cancel()
	a, err := c.prompter.Login(asking, f)
	if err != nil {
		return nil, unanswered(asking, statusLogin, fmt.Errorf("logging in: %w", err))
	}
	return a, nil
}

func (c *conversation) newPIN(ctx context.Context, m NewPINRequest) (Message, error) {
	asking, cancel := c.whileAsking(ctx)
	defer cancel()
	pin, err := c.prompter.NewPIN(asking, m.Min, m.Max)
	if err != nil {
		return nil, unanswered(asking, statusSetPIN, fmt.Errorf("choosing a PIN: %w", err))
	}
	if err := CheckPIN(pin); err != nil {
		pin.Wipe()
		return nil, &localFailure{statusSetPIN, err}
	}
	return NewPINResponse{PIN: pin.Secret}, nil
}

// whileAsking returns a context that ends when the server has nothing more to
// hear: it ended the operation, or the connection is lost.
func (c *conversation) whileAsking(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-c.link.inbox.done: // also after END_OP
			cancel(errors.New("the server ended the operation or the connection was lost"))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// maxResponse bounds what GET RESPONSE collects: an extended-length answer.
const maxResponse = apdu.MaxExtendedNe + 2

// transmit runs one command. 61xx is resolved here with GET RESPONSE on the same
// logical channel, 6Cxx is the server's (§13).
func (c *conversation) transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	c.apdus++
	if len(cmd) < 4 {
		return nil, fmt.Errorf("%w: command APDU of %d bytes", ErrProtocol, len(cmd))
	}
	channel := cmd[0] & 0x03
	if cmd[0]&0x40 != 0 {
		channel = 0x40 | cmd[0]&0x0F // ISO 7816-4 §5.4.1: channels 4 to 19
	}
	var data []byte
	for {
		b, err := c.card.Transmit(ctx, cmd)
		if err != nil {
			return nil, err
		}
		if len(b) < 2 || len(data)+len(b) > maxResponse {
			return nil, fmt.Errorf("the card answered with %d bytes", len(data)+len(b))
		}
		sw1, sw2 := b[len(b)-2], b[len(b)-1]
		if sw1 != 0x61 {
			return append(data, b...), nil
		}
		if len(b) == 2 && len(cmd) == 5 && cmd[1] == 0xC0 {
			return nil, errors.New("the card announces data and gives none")
		}
		data = append(data, b[:len(b)-2]...)
		cmd = []byte{channel, 0xC0, 0, 0, sw2}
	}
}
