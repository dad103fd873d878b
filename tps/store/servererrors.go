package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"inkan/tps/token"
)

// codeOf is the SQLSTATE of an error, empty if it is none of the server's.
func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// serialization reports that the server undid a transaction, or a statement, for
// the sake of another one.
func serialization(err error) bool {
	code := codeOf(err)
	return code == "40001" || code == "40P01" // serialization_failure, deadlock_detected
}

// notSent reports that the server cannot have seen what failed, and may answer soon.
func notSent(err error) bool {
	var c *pgconn.ConnectError
	if !errors.As(err, &c) {
		return errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err) && !errors.Is(err, context.Canceled)
	}
	switch code := codeOf(err); code {
	case "", "57P01", "57P02", "57P03", "53300": // network; it ends, crashed, starts; too many clients
		return true
	}
	return false // password, database, access
}

// dropped reports that the connection was lost while a statement ran.
func dropped(err error) bool {
	switch code := codeOf(err); code {
	case "57P01", "57P02", "57P03", "08000", "08003", "08006":
		return true
	case "":
		return unreachable(err)
	}
	return false
}

// unreachable reports that the server did not answer.
func unreachable(err error) bool {
	var c *pgconn.ConnectError
	var n net.Error
	return errors.As(err, &c) || errors.As(err, &n) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// wrapServer turns an error of PostgreSQL, or of the way to it, into one of tps/token.
func wrapServer(doing string, err error) error {
	code := codeOf(err)
	switch code {
	case "23505": // unique_violation
		return token.ErrConflict
	}
	if h := hint(code, err); h != "" {
		return fmt.Errorf("%w: %s: %s: %w", token.ErrUnavailable, doing, h, oneLine{err})
	}
	return fmt.Errorf("%w: %s: %w", token.ErrUnavailable, doing, oneLine{err})
}

// oneLine is an error of the driver, which writes a line for each address it tried.
type oneLine struct{ error }

// Error implements error.
func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }

// Unwrap is for errors.Is and errors.As.
func (e oneLine) Unwrap() error { return e.error }

// hint says what happened and what to do, in our words.
func hint(code string, err error) string {
	var c *pgconn.ConnectError
	switch {
	case code == "28P01" || code == "28000":
		return "the database server does not let the user in: look at the user in [database] url, at password_file and the server's pg_hba.conf"
	case code == "3D000":
		return "the database does not exist: createdb --encoding UTF8 --template template0 NAME"
	case code == "42501":
		return "the user may not do that: make it the owner of the database (ALTER DATABASE … OWNER TO …)"
	case code == "53100":
		return "no space left on the disk of the database server, nothing was changed"
	case code == "53300":
		return "the database server has no connection left: raise its max_connections"
	case code == "25006":
		return "the database server is read-only, a stand-by: name the primary, or all hosts with target_session_attrs=read-write"
	case code == "57014":
		return "the database server took too long"
	case code == "57P03":
		return "the database server is starting or ending: try again"
	case serialization(err):
		return "the database is too busy, nothing was changed: try again"
	case errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &c):
		return "the database did not answer in time; whether this was stored has to be looked up"
	case errors.As(err, &c):
		return "the database server cannot be reached: look whether it runs, at [database] url and the network"
	case dropped(err):
		return "the connection to the database server was lost: it is made anew; whether this was stored has to be looked up"
	}
	return ""
}
