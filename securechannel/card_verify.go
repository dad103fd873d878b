package securechannel

import "inkan/apdu"

// Verifies reports whether [CardSession.Unwrap] would take a command, and changes
// nothing. A card needs it to tell a segment that carries its own MAC from one of
// a command whose MAC ends the last segment (GlobalPlatform 2.3.1 §11.1.5.1).
func (s *CardSession) Verifies(cmd apdu.Command) bool {
	if s.state != cardOpen {
		return false
	}
	_, _, err := s.sm.unwrap(s.chain, cmd)
	return err == nil
}
