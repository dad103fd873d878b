package coolkey

import (
	"encoding/binary"
	"errors"
	"fmt"

	"inkan/apdu"
)

// expectedKeys and expectedObjects are how much of a list is asked for ahead; what
// lies behind is asked for one by one.
const (
	expectedKeys    = 6 // three pairs
	expectedObjects = 3
)

// VersionEntries are the commands of [ReadVersion]; [VersionOf] reads the answers.
func VersionEntries() []apdu.Entry {
	return []apdu.Entry{{Command: statusCommand(), Mode: apdu.Plain}, {Command: buildCommand(), Mode: apdu.Plain}}
}

// VersionOf reads the answers to [VersionEntries], which are the first two of rs.
func VersionOf(rs []apdu.Response) (Version, error) {
	if len(rs) < 2 {
		return Version{}, fmt.Errorf("reading the applet version: %d answers", len(rs))
	}
	if err := errors.Join(rs[0].Check(statusCommand()), rs[1].Check(buildCommand())); err != nil {
		return Version{}, fmt.Errorf("reading the applet version: %w", named(err))
	}
	s, b := rs[0].Data, rs[1].Data
	if len(s) < 16 || len(b) < 4 {
		return Version{}, fmt.Errorf("reading the applet version: answers of %d and %d bytes, want 16 and 4", len(s), len(b))
	}
	return Version{Major: s[2], Minor: s[3], Build: BuildID(binary.BigEndian.Uint32(b))}, nil
}

// DescribeEntries are [Select], [ReadVersion], [ReadStatus] and [ReadLifeCycle],
// in this order, for apdu.ReadAhead.
func DescribeEntries() []apdu.Entry {
	es := append([]apdu.Entry{{Command: SelectCommand()}}, VersionEntries()...)
	return append(es, apdu.Entry{Command: statusCommand(), Mode: apdu.Plain}, apdu.Entry{Command: lifeCycleCommand(), Mode: apdu.Plain})
}

// ListKeysEntries are the beginning of [ListKeys], for apdu.ReadAhead.
func ListKeysEntries() []apdu.Entry {
	es := make([]apdu.Entry, 0, expectedKeys+1)
	for i := range expectedKeys + 1 {
		es = append(es, apdu.Entry{Command: listKeyCommand(i > 0), Mode: apdu.Plain})
	}
	return es
}

// ListObjectsEntries are the beginning of [ListObjects], for apdu.ReadAhead. The
// card ends the list behind the last object.
func ListObjectsEntries() []apdu.Entry {
	es := make([]apdu.Entry, 0, expectedObjects+1)
	for i := range expectedObjects + 1 {
		es = append(es, apdu.Entry{Command: listObjectCommand(i > 0), Mode: apdu.Plain})
	}
	return es
}

func statusCommand() apdu.Command { return plain(0x3C, 0, 0, nil, 0x10) }

func buildCommand() apdu.Command { return plain(0x70, 0, 0, nil, 4) }

func lifeCycleCommand() apdu.Command { return plain(0xF2, 0, 0, nil, 1) }

func listKeyCommand(next bool) apdu.Command { return plain(0x3A, sequence(next), 0, nil, 0x0B) }

func listObjectCommand(next bool) apdu.Command { return plain(0x58, sequence(next), 0, nil, 0x0E) }
