package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"inkan/apdu/secret"
	"inkan/tps/token"
)

// Postgres says where a PostgreSQL database is.
type Postgres struct {
	// URL as libpq has it: postgres://user@host:port/database?parameters, with
	// several hosts where there are stand-bys. It holds no password. Without
	// sslmode it is verify-full, on this machine prefer.
	URL string
	// Password of the user; zero: the server wants none.
	Password secret.Secret
	// Connections are the most that one process has, those of [DB.Watch] excepted;
	// 0 = 16.
	Connections int
}

// Limits of a PostgreSQL connection.
const (
	connectTimeout   = 5 * time.Second  // for one attempt
	patience         = 5 * time.Second  // for a server that restarts
	statementTimeout = 10 * time.Second // at the server
	answerTimeout    = 15 * time.Second // here: the network is cut
	connections      = 16
	idleTime         = 5 * time.Minute
)

// oldest is the oldest PostgreSQL whose behaviour the statements need.
const oldest = 13

// CheckURL says what is wrong with the URL of a PostgreSQL database. It does not
// look for the files that it names.
func CheckURL(address string) error {
	u, err := readURL(address)
	if err != nil {
		return err
	}
	q := u.Query()
	for _, file := range []string{"sslrootcert", "sslcert", "sslkey"} {
		q.Del(file)
	}
	u.RawQuery = q.Encode()
	_, err = pgx.ParseConfig(u.String())
	return err
}

// errPassword is the refusal of a password where others read it.
var errPassword = errors.New("it holds a password, which lists of processes, logs and backups would show: name a file with it as password_file")

func parseURL(address string) (*pgx.ConnConfig, error) {
	u, err := readURL(address)
	if err != nil {
		return nil, err
	}
	return pgx.ParseConfig(u.String()) // without a password there is none in its errors
}

// readURL adds the sslmode that is meant where there is none.
func readURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		var reason *url.Error // whose text repeats the URL
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return nil, fmt.Errorf("it is no URL: %w", err)
	}
	q := u.Query()
	_, typed := u.User.Password()
	switch {
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return nil, errors.New("it does not begin postgres://")
	case typed, q.Has("password"), q.Has("sslpassword"):
		return nil, errPassword
	case strings.Trim(u.Path, "/") == "" && !q.Has("dbname"):
		return nil, errors.New("it names no database: postgres://user@host/database")
	}
	if !q.Has("sslmode") && !onThisMachine(u) {
		q.Set("sslmode", "verify-full")
		u.RawQuery = q.Encode()
	}
	return u, nil
}

// onThisMachine reports whether the traffic leaves this machine.
func onThisMachine(u *url.URL) bool {
	hosts := strings.Split(u.Host, ",")
	if h := u.Query().Get("host"); h != "" {
		hosts = strings.Split(h, ",")
	}
	for _, h := range hosts {
		if name, _, err := net.SplitHostPort(h); err == nil {
			h = name
		}
		if !loopback(strings.Trim(h, "[]")) {
			return false
		}
	}
	return true
}

// loopback reports whether a host, or the folder of a socket, is this machine's.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "localhost" || strings.HasPrefix(host, "/") || ip != nil && ip.IsLoopback()
}

// config is what every connection begins with. The environment and ~/.pgpass give
// no password: secrets come from the configuration.
func (p Postgres) config() (*pgx.ConnConfig, error) {
	c, err := parseURL(p.URL)
	if err != nil {
		return nil, err
	}
	c.Password = ""
	if !p.Password.IsZero() {
		c.Password = string(p.Password.Bytes()) // the library wants a string
	}
	if c.ConnectTimeout <= 0 || c.ConnectTimeout > connectTimeout {
		c.ConnectTimeout = connectTimeout
	}
	for name, value := range map[string]string{
		"application_name":                    "inkan",
		"statement_timeout":                   milliseconds(statementTimeout),
		"lock_timeout":                        milliseconds(statementTimeout),
		"idle_in_transaction_session_timeout": milliseconds(answerTimeout),
		"timezone":                            "UTC",
	} {
		if _, chosen := c.RuntimeParams[name]; !chosen {
			c.RuntimeParams[name] = value
		}
	}
	return c, nil
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// OpenPostgres opens a PostgreSQL database, which exists and whose user may make
// tables in it, and brings the tables up to date: of several nodes that start at
// once, one does. It fails with [ErrNewer] if a newer program has written it, and
// with token.ErrUnavailable, and words on what to do, if the server cannot be
// reached or would lose what it has acknowledged.
func OpenPostgres(ctx context.Context, p Postgres) (*DB, error) {
	c, err := p.config()
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	db, err := openPostgres(ctx, p, c)
	if err != nil {
		return nil, fmt.Errorf("opening database %s: %w", place(c), err)
	}
	return db, nil
}

// place names a database to people.
func place(c *pgx.ConnConfig) string {
	return fmt.Sprintf("%s on %s as %s", c.Database, net.JoinHostPort(c.Host, fmt.Sprint(c.Port)), c.User)
}

func openPostgres(ctx context.Context, p Postgres, c *pgx.ConnConfig) (*DB, error) {
	e := newServer(stdlib.OpenDB(*c), c)
	most := p.Connections
	if most <= 0 {
		most = connections
	}
	e.db.SetMaxOpenConns(most)
	e.db.SetMaxIdleConns(most)
	e.db.SetConnMaxIdleTime(idleTime)
	db := newDB(e)
	info, err := e.about(ctx)
	if err == nil {
		err = info.Usable()
	}
	if err == nil {
		err = e.migrate(ctx)
	}
	if err == nil {
		err = db.Ready(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// postgresDialect: the order of texts is that of their bytes, as in SQLite, whatever
// the database's own is.
var postgresDialect = dialect{goose: goose.DialectPostgres, types: strings.NewReplacer("TEXT", `TEXT COLLATE "C"`, "BLOB", "BYTEA")}

// migrationLock keeps nodes that start together from migrating together.
const migrationLock = 0x696e6b616e // inkan

func (s *server) migrate(ctx context.Context) error {
	c := s.config.Copy()
	c.RuntimeParams["statement_timeout"], c.RuntimeParams["lock_timeout"] = "0", "0" // large tables take their time
	own := stdlib.OpenDB(*c)
	defer own.Close()
	conn, err := own.Conn(ctx)
	if err != nil {
		return wrap("connecting", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil { // until own closes
		return wrap("waiting for other nodes that migrate the database", err)
	}
	return migrate(ctx, postgresDialect, own)
}

// ServerInfo is what a PostgreSQL server says of itself.
type ServerInfo struct {
	Place    string // database, host, user
	Version  int    // major
	Encoding string
	// Flushes says whether an acknowledged transaction is on the disk
	// (synchronous_commit); Fsync whether a power cut of the server's machine leaves
	// the database whole (fsync and full_page_writes).
	Flushes, Fsync bool
	ReadOnly       bool
	Encrypted      bool
	Local          bool // it is on this machine
	// Skew is by how much the server's clock is ahead of this machine's.
	Skew time.Duration
	// Migration is the newest that was applied, 0 for an empty database; Known the
	// newest that this program has.
	Migration, Known int64
}

// Usable says why [OpenPostgres] would refuse the server; nil: it would not.
func (i ServerInfo) Usable() error {
	var why string
	switch {
	case i.Version < oldest:
		why = fmt.Sprintf("the server is PostgreSQL %d: %d or newer is needed", i.Version, oldest)
	case i.Encoding != "UTF8":
		why = fmt.Sprintf("the database has the encoding %s: make it with ENCODING 'UTF8' TEMPLATE template0", i.Encoding)
	case i.ReadOnly:
		why = "it is read-only, a stand-by: name the primary, or all hosts with target_session_attrs=read-write"
	case !i.Flushes:
		why = "synchronous_commit is off: the server would acknowledge what a crash then loses; say ALTER DATABASE … SET synchronous_commit = on"
	case i.Migration > i.Known:
		return fmt.Errorf("%w: it has version %d, the program knows %d", ErrNewer, i.Migration, i.Known)
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", token.ErrUnavailable, why)
}

// AskPostgres connects, asks and changes nothing.
func AskPostgres(ctx context.Context, p Postgres) (ServerInfo, error) {
	c, err := p.config()
	if err != nil {
		return ServerInfo{}, fmt.Errorf("asking the database: %w", err)
	}
	e := newServer(stdlib.OpenDB(*c), c)
	e.patience = 0
	i, err := e.about(ctx)
	if err = errors.Join(err, e.close()); err != nil {
		return i, fmt.Errorf("asking database %s: %w", place(c), err)
	}
	return i, nil
}

const aboutServer = `SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
	current_setting('synchronous_commit') <> 'off', current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
	pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
	COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), to_regclass('goose_db_version') IS NOT NULL`

func (s *server) about(ctx context.Context) (ServerInfo, error) {
	i := ServerInfo{Place: place(s.config), Local: loopback(s.config.Host)}
	known, err := newest()
	if err != nil {
		return i, err
	}
	i.Known = known
	migrated, err := queryOne(ctx, s, func(r row) (migrated bool, err error) {
		err = r.Scan(&i.Version, &i.Encoding, &i.Flushes, &i.Fsync, &i.ReadOnly, &i.Encrypted, &migrated)
		return migrated, err
	}, aboutServer)
	if err != nil {
		return i, err
	}
	before := time.Now()
	at, err := s.clock(ctx, s, before)
	if err != nil {
		return i, err
	}
	i.Skew = at.Sub(before.Add(time.Since(before) / 2))
	if migrated {
		i.Migration, err = queryOne(ctx, s, scanInt, "SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied")
	}
	return i, err
}
