package station

import "strings"

// tasks are the names of tasks in status updates (tps-protocol §8, and the names
// of steps) in plain words.
var tasks = map[string]string{
	"PROGRESS_APPLET_BLOCK":              "loading the applet",
	"PROGRESS_APPLET_RESET":              "resetting the card: everything on it is lost",
	"PROGRESS_KEY_GENERATION":            "making a key",
	"PROGRESS_ENROLL_CERT":               "having a certificate issued",
	"PROGRESS_WRITE_OBJECTS":             "writing the certificates",
	"PROGRESS_ISSUER_INFO":               "writing the issuer's address",
	"PROGRESS_SET_LIFECYCLE":             "finishing the card",
	"PROGRESS_PROCESS_PROFILE":           "reading the card",
	"PROGRESS_START_PIN_RESET":           "reading the card",
	"PROGRESS_PIN_RESET_RESOLVE_PROFILE": "reading the card",
	"PROGRESS_DONE":                      "done",
	"PROGRESS_DONE_ENROLLMENT":           "done",
	"PROGRESS_PIN_RESET_COMPLETE":        "done",
	"register-token":                     "adding the card to the records",
	"adopt-keys":                         "completing the card's record",
	"ask-pin":                            "choosing a PIN",
	"ask-card-pin":                       "asking for the card's PIN",
	"keep-certificate":                   "keeping a key and its certificate",
	"change-keys":                        "changing the card's keys",
	"change-applet-keys":                 "changing the applet's own keys",
	"forget-card-keys":                   "having the card forget the keys that it kept",
	"set-pin":                            "setting the PIN",
	"revoke-certificates":                "revoking the old certificates",
	"record-token":                       "writing the records",
}

// Task is a task's name in plain words; an unknown name stays readable.
func Task(name string) string {
	if t, ok := tasks[name]; ok {
		return t
	}
	return strings.ToLower(strings.NewReplacer("PROGRESS_", "", "_", " ", "-", " ").Replace(name))
}
