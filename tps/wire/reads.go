package wire

// Reads reports whether a command APDU changes nothing that a card keeps for anybody: those
// by which cards of the families are identified and read, and nothing else. A command that
// is not known here may change the card, as may any with secure messaging or chaining.
//
// Two of them make a card work on its own account. INITIALIZE UPDATE draws a challenge, for
// which cards may move a counter, and GENERAL AUTHENTICATE with 9B is the only way in which
// a PIV card without card manager proves who it is; what that opens ends when the card is
// next reset.
func Reads(cmd []byte) bool {
	if len(cmd) < 4 {
		return false
	}
	may, known := reading[[2]byte{cmd[0], cmd[1]}]
	return known && (may == nil || may(cmd))
}

// reading are the commands by class and instruction; nil = with whatever parameters.
var reading = map[[2]byte]func(cmd []byte) bool{
	// ISO 7816-4 and GlobalPlatform 2.2 §11.
	{0x00, 0xA4}: func(c []byte) bool { return c[2] == 0x04 }, // SELECT by name
	{0x00, 0xC0}: nil,                                         // GET RESPONSE
	{0x80, 0xCA}: nil,                                         // GET DATA
	{0x80, 0x50}: nil,                                         // INITIALIZE UPDATE
	// CoolKey (coolkey-applet.md §5).
	{0xB0, 0x3A}: nil, // LIST KEYS
	{0xB0, 0x3C}: nil, // GET STATUS
	{0xB0, 0x56}: nil, // READ OBJECT
	{0xB0, 0x58}: nil, // LIST OBJECTS
	{0xB0, 0x70}: nil, // GET BUILD ID
	{0xB0, 0xF2}: nil, // GET LIFE CYCLE
	{0xB0, 0xF6}: nil, // GET ISSUER INFO
	// PIV (SP 800-73-4 part 2) and Yubico's additions.
	{0x00, 0x20}: func(c []byte) bool { // VERIFY without a PIN asks for the tries
		return c[2] == 0 && (len(c) == 4 || len(c) == 5 && c[4] == 0)
	},
	{0x00, 0x87}: func(c []byte) bool { return c[3] == 0x9B }, // GENERAL AUTHENTICATE, management key
	{0x00, 0xCB}: nil,                                         // GET DATA
	{0x00, 0xF7}: nil,                                         // GET METADATA
	{0x00, 0xF8}: nil,                                         // GET SERIAL
	{0x00, 0xFD}: nil,                                         // GET VERSION
}
