// Package sim is a software card: a GlobalPlatform card in a virtual reader, as
// an apdu.Card. [New] makes one in memory or in an image file, [Open] opens an
// image; package vpcd plugs it into the machine's PC/SC service.
//
//	card, err := sim.New(sim.Config{Model: "gp-scp03"})
//	conn := apdu.NewConn(card)
//
// What the card is follows from its [Model] (GlobalPlatform Card Specification
// 2.3.1, SCP01, SCP02 and SCP03); the card manager is package sim/gp, the applets that
// loaded code turns into are in sim/coolkey and sim/piv. A model may have no card
// manager: then it is the PIV applet it was born with, as a YubiKey is. Code itself is not executed: an
// unknown load file gives applications that can be selected, no more. Logical
// channels are not supported.
//
// An image file is replaced as a whole, so that a power failure at any
// instruction leaves the state before or after a command. It holds the card's
// keys in the clear, mode 0600: they are the software card's own, its CPLC says
// "INKA", and servers refuse such cards unless told otherwise.
//
// [Card.Cut] pulls the card at a chosen exchange and [Chaos] makes it behave as
// badly as the standards permit. Cards are small and share nothing: thousands
// fit into one process.
package sim
