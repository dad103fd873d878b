//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
)

// module is a loaded PKCS #11 library. C_Initialize and C_Finalize work for the
// whole process, so all tokens of one library share one module.
type module struct {
	path     string
	reserved string // for C_Initialize
	ctx      *p11.Ctx

	// mu is read-held by every call into the library: C_Finalize under a running
	// call crashes the process.
	mu  sync.RWMutex
	gen uint64 // counts C_Initialize; what was made before a restart is gone

	users int // guarded by modules.mu
}

// modules are the libraries of this process, by resolved path. A library is never
// unloaded: not every one survives that.
var modules = struct {
	mu     sync.Mutex
	loaded map[string]*module
}{loaded: map[string]*module{}}

// loadModule loads and initialises a library, or takes a share in it. Its errors
// are hsm.ErrModule.
func loadModule(path, reserved string) (*module, error) {
	m, err := load(path, reserved)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hsm.ErrModule, err)
	}
	return m, nil
}

func load(path, reserved string) (*module, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("loading PKCS #11 module %s: %w", path, err)
	}
	if st, err := os.Stat(real); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("loading PKCS #11 module: %s is not a file", path), err)
	}
	modules.mu.Lock()
	defer modules.mu.Unlock()
	m := modules.loaded[real]
	if m == nil {
		ctx := p11.New(real)
		if ctx == nil {
			return nil, fmt.Errorf("loading PKCS #11 module: %s is no PKCS #11 library for this machine, or a library that it needs is missing", path)
		}
		m = &module{path: path, ctx: ctx}
		modules.loaded[real] = m
	}
	if m.users > 0 && m.reserved != reserved {
		return nil, fmt.Errorf("loading PKCS #11 module %s: it is in use with another x-init-reserved", path)
	}
	if m.users == 0 {
		m.reserved = reserved
		if err := m.initialize(); err != nil {
			return nil, fmt.Errorf("initializing PKCS #11 module %s: %w", path, err)
		}
	}
	m.users++
	return m, nil
}

func (m *module) initialize() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(); err != nil {
		return errors.New(rv(err))
	}
	m.gen++
	return nil
}

// begin is C_Initialize with CKF_OS_LOCKING_OK.
func (m *module) begin() error {
	if m.reserved == "" {
		return m.ctx.Initialize()
	}
	text := append([]byte(m.reserved), 0)
	return m.ctx.Initialize(p11.InitializeWithReserved(unsafe.Pointer(&text[0])))
}

// release gives a share back; the last one finalises the library.
func (m *module) release() error {
	modules.mu.Lock()
	defer modules.mu.Unlock()
	m.users--
	if m.users > 0 {
		return nil
	}
	if !m.drain(time.Second) {
		m.users = 1 // never initialise it again under the call that hangs
		return fmt.Errorf("closing PKCS #11 module %s: a call hangs in it", m.path)
	}
	defer m.mu.Unlock()
	m.gen++
	if err := m.ctx.Finalize(); err != nil {
		return fmt.Errorf("closing PKCS #11 module %s: %s", m.path, rv(err))
	}
	return nil
}

// drain takes mu for writing, without making readers queue behind it.
func (m *module) drain(limit time.Duration) bool {
	for end := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		if m.mu.TryLock() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// restart finalises and initialises the library, unless that happened since gen.
// Every session of every token ends with it.
func (m *module) restart(gen uint64) error {
	if !m.drain(2 * time.Second) {
		return fmt.Errorf("restarting PKCS #11 module %s: a call hangs in it: %w", m.path, hsm.ErrUnavailable)
	}
	defer m.mu.Unlock()
	if m.gen != gen {
		return nil
	}
	m.gen++
	// Whether finalising works says nothing: a library that lost its device may
	// refuse, or have been finalised by itself.
	_ = m.ctx.Finalize()
	if err := m.begin(); err != nil && !isRV(err, p11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return fmt.Errorf("restarting PKCS #11 module %s: %s: %w", m.path, rv(err), hsm.ErrUnavailable)
	}
	return nil
}

func (m *module) generation() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.gen
}

// errStale: the library was restarted under the caller.
var errStale = fmt.Errorf("PKCS #11 module was restarted: %w", hsm.ErrUnavailable)

// errHangs: the call did not come back; its session must not be used again.
var errHangs = fmt.Errorf("call into the PKCS #11 module does not come back: %w", hsm.ErrUnavailable)

// call runs f in the library of generation gen. A C call cannot be cancelled:
// after limit, f is left to itself and must not have touched what the caller holds.
func call[T any](ctx context.Context, m *module, gen uint64, limit time.Duration, f func(*p11.Ctx) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	done := make(chan result, 1)
	go func() {
		m.mu.RLock()
		defer m.mu.RUnlock()
		if m.gen != gen {
			done <- result{err: errStale}
			return
		}
		v, err := f(m.ctx)
		done <- result{v, err}
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-t.C:
		return none, errHangs
	}
}
