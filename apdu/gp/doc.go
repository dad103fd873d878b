// Package gp speaks to a GlobalPlatform card manager: one function per card
// command, typed answers (GlobalPlatform Card Specification 2.3.1).
package gp
