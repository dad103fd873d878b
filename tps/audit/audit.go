// Package audit is the append-only record of who did what to which card or
// key, written before and after each irreversible step. Events are chained by
// hash and numbered without a gap; it is not a log level.
package audit

import (
	"context"
	"time"
)

// Event is one audit record. No field ever holds a secret.
type Event struct {
	Seq       int64             `json:"seq"`
	Time      time.Time         `json:"time"`
	Name      string            `json:"event"`   // TOKEN_FORMAT, TOKEN_KEY_CHANGEOVER, …
	Outcome   Outcome           `json:"outcome"` // attempt, success, failure
	Subject   string            `json:"subject,omitempty"`
	CUID      string            `json:"cuid,omitempty"`
	Reference string            `json:"ref,omitempty"` // journal id
	IP        string            `json:"ip,omitempty"`
	Fields    map[string]string `json:"fields,omitempty"`
	Prev      string            `json:"prev"` // hex SHA-256 of the previous line
}

// Outcome of an event.
type Outcome string

// Outcomes: Attempt is written before an irreversible step acts.
const (
	Attempt Outcome = "attempt"
	Success Outcome = "success"
	Failure Outcome = "failure"
)

// Log takes events. Seq, Time (if zero) and Prev are filled in. Record returns
// after the event is durable; an error means that the step must not be taken.
type Log interface {
	Record(ctx context.Context, e Event) error
}
