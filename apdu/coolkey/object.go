package coolkey

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"inkan/apdu"
)

// MaxObjectLen is the largest size of an object.
const MaxObjectLen = 0x7FFF

// maxListed bounds what a list of the card may hold: a heap of 7FFF bytes has
// room for fewer objects.
const maxListed = 2048

// ObjectInfo is one record of LIST OBJECTS.
type ObjectInfo struct {
	ID   ObjectID
	Size int
	ACL  ObjectACL
}

// ListObjects lists the objects of the heap, newest first. Dogtag's soft token
// ends its list, which is always empty, with [SWListEnd].
func ListObjects(ctx context.Context, d apdu.Doer) ([]ObjectInfo, error) {
	var list []ObjectInfo
	for len(list) < maxListed {
		o, err := ListObject(ctx, d, len(list) > 0)
		if errors.Is(err, SWSequenceEnd) || errors.Is(err, SWListEnd) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return nil, fmt.Errorf("listing objects: more than %d", maxListed)
}

// ListObject asks for the first or the next object; behind the last one the
// error is [SWSequenceEnd].
func ListObject(ctx context.Context, d apdu.Doer, next bool) (ObjectInfo, error) {
	b, err := call(ctx, d, "listing objects", listObjectCommand(next), 14)
	if err != nil {
		return ObjectInfo{}, err
	}
	size := binary.BigEndian.Uint32(b[4:])
	if size > 0xFFFF {
		return ObjectInfo{}, fmt.Errorf("listing objects: object of %d bytes", size)
	}
	return ObjectInfo{
		ID:   ObjectID(b[:4]),
		Size: int(size),
		ACL:  ObjectACL{Read: acl(b[8:]), Write: acl(b[10:]), Delete: acl(b[12:])},
	}, nil
}

func sequence(next bool) byte {
	if next {
		return 1
	}
	return 0
}

// CreateObject creates an object of size bytes. Through a channel an existing
// object of that name is replaced, otherwise it is refused with [SWObjectExists].
func CreateObject(ctx context.Context, d apdu.Doer, a Access, o ObjectInfo) error {
	_, err := call(ctx, d, fmt.Sprintf("creating object %v", o.ID), CreateObjectCommand(a, o), 0)
	return err
}

// CreateObjectCommand is 84 5A or B0 5A.
func CreateObjectCommand(a Access, o ObjectInfo) apdu.Command {
	data := make([]byte, 0, 14)
	data = binary.BigEndian.AppendUint32(append(data, o.ID[:]...), uint32(o.Size))
	return a.command(0x5A, 0, 0, appendACL(data, o.ACL.Read, o.ACL.Write, o.ACL.Delete), 0)
}

// Deletion says whether the content of a deleted object is overwritten.
type Deletion byte

// Ways of deleting.
const (
	Forget  Deletion = 0
	Zeroize Deletion = 1
)

// DeleteObject deletes an object.
func DeleteObject(ctx context.Context, d apdu.Doer, a Access, id ObjectID, how Deletion) error {
	_, err := call(ctx, d, fmt.Sprintf("deleting object %v", id), DeleteObjectCommand(a, id, how), 0)
	return err
}

// DeleteObjectCommand is 84 52 or B0 52.
func DeleteObjectCommand(a Access, id ObjectID, how Deletion) apdu.Command {
	return a.command(0x52, 0, byte(how), id[:], 0)
}

// ReadObject reads n bytes from offset on, in pieces.
func ReadObject(ctx context.Context, d apdu.Doer, a Access, id ObjectID, offset, n int) ([]byte, error) {
	what := fmt.Sprintf("reading object %v", id)
	if offset < 0 || n < 0 || n > 0xFFFF {
		return nil, fmt.Errorf("%s: %d bytes at %d", what, n, offset)
	}
	es := ReadObjectEntries(a, id, offset, n)
	rs, err := run(ctx, d, what, es)
	if err != nil {
		return nil, err
	}
	data, err := JoinReads(es, rs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return data, nil
}

// ReadObjectEntries are the READ OBJECT commands for n bytes from offset on, in
// pieces of at most [MaxPiece] bytes. [JoinReads] puts their answers together.
func ReadObjectEntries(a Access, id ObjectID, offset, n int) []apdu.Entry {
	es := make([]apdu.Entry, 0, (n+MaxPiece-1)/MaxPiece)
	for done := 0; done < n; {
		piece := min(n-done, MaxPiece)
		es = append(es, a.entry(a.command(0x56, 0, 0, address(id, offset+done, piece), piece)))
		done += piece
	}
	return es
}

// JoinReads checks the answers to the commands of [ReadObjectEntries] and returns
// the bytes read.
func JoinReads(es []apdu.Entry, rs []apdu.Response) ([]byte, error) {
	var data []byte
	for i, e := range es {
		if i >= len(rs) {
			return nil, fmt.Errorf("%d answers to %d commands", len(rs), len(es))
		}
		if err := rs[i].Check(e.Command); err != nil {
			return nil, err
		}
		if want := int(e.Data[8]); len(rs[i].Data) != want {
			return nil, fmt.Errorf("answer of %d bytes, want %d", len(rs[i].Data), want)
		}
		data = append(data, rs[i].Data...)
	}
	return data, nil
}

// WriteObject writes data from offset on, in pieces.
func WriteObject(ctx context.Context, d apdu.Doer, a Access, id ObjectID, offset int, data []byte) error {
	_, err := run(ctx, d, fmt.Sprintf("writing object %v", id), WriteObjectEntries(a, id, offset, data))
	return err
}

// WriteObjectEntries are the WRITE OBJECT commands for data from offset on, in
// pieces of at most [MaxPiece] bytes. data is copied.
func WriteObjectEntries(a Access, id ObjectID, offset int, data []byte) []apdu.Entry {
	es := make([]apdu.Entry, 0, (len(data)+MaxPiece-1)/MaxPiece)
	for done := 0; done < len(data); {
		piece := data[done:min(len(data), done+MaxPiece)]
		body := append(address(id, offset+done, len(piece)), piece...)
		es = append(es, a.entry(a.command(0x54, 0, 0, body, 0)))
		done += len(piece)
	}
	return es
}

// ReplaceObjectEntries create an object of len(data) bytes and write it. Through
// a channel an older object of that name is replaced.
func ReplaceObjectEntries(a Access, id ObjectID, acl ObjectACL, data []byte) []apdu.Entry {
	create := a.entry(CreateObjectCommand(a, ObjectInfo{ID: id, Size: len(data), ACL: acl}))
	return append([]apdu.Entry{create}, WriteObjectEntries(a, id, 0, data)...)
}

func address(id ObjectID, offset, n int) []byte {
	b := make([]byte, 0, 9+n)
	b = binary.BigEndian.AppendUint32(append(b, id[:]...), uint32(offset))
	return append(b, byte(n))
}

// run runs a list and checks every answer.
func run(ctx context.Context, d apdu.Doer, what string, es []apdu.Entry) ([]apdu.Response, error) {
	rs, err := apdu.RunAll(ctx, d, es)
	if err != nil {
		return rs, fmt.Errorf("%s: %w", what, named(err))
	}
	return rs, nil
}
