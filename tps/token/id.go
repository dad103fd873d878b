package token

import "github.com/google/uuid"

// NewID returns a new UUIDv7 (RFC 9562 §5.7), lower case with hyphens. IDs of
// one process sort in the order in which they were made. Safe for concurrent use.
func NewID() string {
	return uuid.Must(uuid.NewV7()).String() // fails only if crypto/rand does, which it never returns from
}
