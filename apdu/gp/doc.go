// Package gp speaks to a GlobalPlatform card manager: one function per card
// command, typed answers. [Select] and [ReadCPLC] tell which card it is,
// [LoadEntries] and [InstallRequest] bring an applet onto it.
//
// Functions that only read run the command on an apdu.Doer. For what changes the
// card, they build commands and lists of commands, which the caller runs with
// apdu.Run and apdu.RunAll: a list then takes one round trip, and is checked before
// its first command is sent. Commands have class 80; a secure channel session
// (package securechannel), itself a Doer, makes 84 of it.
//
// GlobalPlatform Card Specification 2.3.1 chapter 11, and Open Platform 2.0.1 by
// [Dialect]. Not here: INITIALIZE UPDATE and EXTERNAL AUTHENTICATE (package
// securechannel), delegated management (tokens and receipts are neither made nor
// checked). Everything is safe for concurrent use as far as the Doer is.
package gp
