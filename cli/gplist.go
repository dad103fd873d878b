package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/cli/manager"
)

// gpEntry is one line of the registry.
type gpEntry struct {
	Kind       string     `json:"kind"` // domain, application, load file
	AID        apdu.AID   `json:"aid"`
	State      string     `json:"state"`
	Privileges string     `json:"privileges,omitempty"`
	LoadFile   string     `json:"load_file,omitempty"`
	Version    string     `json:"version,omitempty"`
	Modules    []apdu.AID `json:"modules,omitempty"`
}

// gpList is what gp list prints.
type gpList struct {
	CUID     string    `json:"cuid,omitempty"`
	Manager  apdu.AID  `json:"card_manager"`
	Protocol string    `json:"protocol"`
	Keys     []string  `json:"keys"`
	Entries  []gpEntry `json:"entries"`
}

func (p *program) listGP(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withManager(c, func(m *manager.Manager) error {
		r, err := m.List(c.Context)
		if err != nil {
			return err
		}
		l := describeRegistry(m, r)
		return p.print(c, l, func(w io.Writer) { printRegistry(w, l) })
	})
}

func describeRegistry(m *manager.Manager, r manager.Registry) gpList {
	iu := m.Info()
	l := gpList{Manager: m.AID, Keys: []string{},
		Protocol: fmt.Sprintf("%v i=%v, level %v, keys of version %v", iu.Protocol, iu.Option, m.Level(), iu.KeyVersion)}
	if m.CPLC != nil {
		l.CUID = m.CPLC.CUID().String()
	}
	for _, k := range r.Keys {
		l.Keys = append(l.Keys, fmt.Sprintf("version %v, id %d: %s, %d bits", k.KVN, k.KID, k.Type, 8*k.Length))
	}
	if r.Domain.AID.Len() > 0 {
		l.Entries = append(l.Entries, describeEntry("domain", r.Domain, cardState))
	}
	for _, e := range r.Applications {
		l.Entries = append(l.Entries, describeEntry("application", e, applicationState))
	}
	for _, e := range r.LoadFiles {
		l.Entries = append(l.Entries, describeEntry("load file", e, fileState))
	}
	return l
}

func describeEntry(kind string, e gp.RegistryEntry, state func(gp.LifeCycle) string) gpEntry {
	out := gpEntry{Kind: kind, AID: e.AID, State: state(e.LifeCycle), Modules: e.Modules}
	if e.Privileges != 0 {
		out.Privileges = strings.ToUpper(hex.EncodeToString(e.Privileges.Bytes()))
	}
	if e.LoadFile.Len() > 0 {
		out.LoadFile = e.LoadFile.String()
	}
	if len(e.Version) == 2 {
		out.Version = fmt.Sprintf("%d.%d", e.Version[0], e.Version[1])
	}
	return out
}

// States of the card, by name (GlobalPlatform 2.3.1 §11.1.1).
func cardState(l gp.LifeCycle) string {
	return stateName(l, map[gp.LifeCycle]string{gp.CardOPReady: "OP_READY", gp.CardInitialized: "INITIALIZED", gp.CardSecured: "SECURED",
		gp.CardLocked: "CARD_LOCKED", gp.CardTerminated: "TERMINATED"})
}

func applicationState(l gp.LifeCycle) string {
	if l&gp.LockedBit != 0 {
		return "LOCKED"
	}
	return stateName(l, map[gp.LifeCycle]string{gp.AppInstalled: "INSTALLED", gp.AppSelectable: "SELECTABLE"})
}

func fileState(l gp.LifeCycle) string {
	return stateName(l, map[gp.LifeCycle]string{gp.FileLoaded: "LOADED"})
}

func stateName(l gp.LifeCycle, names map[gp.LifeCycle]string) string {
	if n, ok := names[l]; ok {
		return n
	}
	return l.String()
}

func printRegistry(w io.Writer, l gpList) {
	field(w, "CUID", l.CUID)
	field(w, "Card manager", l.Manager.String())
	field(w, "Channel", l.Protocol)
	for _, k := range l.Keys {
		field(w, "Key", k)
	}
	fmt.Fprintln(w)
	table(w, "KIND\tAID\tSTATE\tPRIVILEGES\tFROM\tVERSION\tMODULES", len(l.Entries), func(i int) string {
		e := l.Entries[i]
		return strings.Join([]string{e.Kind, e.AID.String(), e.State, dash(e.Privileges), dash(e.LoadFile), dash(e.Version), dash(aids(e.Modules))}, "\t")
	})
}

func aids(list []apdu.AID) string {
	var s []string
	for _, a := range list {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}
