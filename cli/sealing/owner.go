package sealing

import (
	"os"
	"os/user"
	"strconv"
)

// ThisUser is the user id of this process.
func ThisUser() string {
	if u, err := user.Current(); err == nil {
		return u.Uid
	}
	return strconv.Itoa(os.Getuid())
}

// LocalName is how the audit record names a user of this machine.
func LocalName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return "local:" + u.Username
	}
	if uid == "" {
		return "local:owner"
	}
	return "local:" + uid
}
