package vectors

// Session is a recorded or generated secure channel session: kind "session" of
// scp01.json, scp02.json and scp03.json.
type Session struct {
	Name       string
	SCP, I     Hex
	AID        Hex
	Level      Hex
	StaticKeys struct{ Enc, Mac, Dek Hex } `json:"static_keys"`

	InitializeUpdate struct{ Command, Response Hex } `json:"initialize_update"`
	Fields           struct {
		KDD, KVN        Hex
		SequenceCounter Hex `json:"sequence_counter"`
		CardChallenge   Hex `json:"card_challenge"`
	}
	SessionKeys          SessionKeys                     `json:"session_keys"`
	HostChallenge        Hex                             `json:"host_challenge"`
	CardCryptogram       Hex                             `json:"card_cryptogram"`
	HostCryptogram       Hex                             `json:"host_cryptogram"`
	ExternalAuthenticate struct{ Command, Response Hex } `json:"external_authenticate"`
	ChainAfterEA         Hex                             `json:"mac_chaining_value_after_ea"`
	ChallengeRecomputed  bool                            `json:"card_challenge_recomputed"`
	Commands             []Command
}

// SessionKeys are session keys under the names of either protocol.
type SessionKeys struct {
	SEnc  Hex `json:"s_enc"`
	CMAC  Hex `json:"c_mac"`
	SMAC  Hex `json:"s_mac"`
	RMAC  Hex `json:"r_mac"`
	SRMAC Hex `json:"s_rmac"`
	DEK   Hex
}

// Command is one exchange of a session.
type Command struct {
	Plain, Wrapped  Hex
	Response        Hex
	ResponsePlain   Hex    `json:"response_plain"`
	ResponsePadding string `json:"response_padding"`
	Counter         uint64 `json:"encryption_counter"`
	Chain           Hex    `json:"mac_chaining_value"`
	ICV             Hex
	CMAC            Hex `json:"c_mac"`
	RMACInput       Hex `json:"r_mac_input"`
}

// Wrap is a list of commands under given session keys: kind "wrap".
type Wrap struct {
	Name                 string
	I, Level             Hex
	SessionKeys          SessionKeys `json:"session_keys"`
	ExternalAuthenticate Hex         `json:"external_authenticate"`
	Commands             []Command
}

// Chained is one long command sent in two segments: kind "chained".
type Chained struct {
	Name                 string
	I, Level             Hex
	SessionKeys          SessionKeys `json:"session_keys"`
	ExternalAuthenticate Hex         `json:"external_authenticate"`
	PlainHeader          Hex         `json:"plain_header"`
	PlainData            Hex         `json:"plain_data"`
	WrappedData          Hex         `json:"wrapped_data"`
	Segments             []Hex
}
