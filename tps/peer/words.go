package peer

import (
	"strings"

	"inkan/tps/wire"
)

// Words are the first eight bytes of a fingerprint as one word each, 64 bits, to be
// compared over a telephone: byte b is the word at place b of the list in this file,
// which is in the order of the alphabet, was made for this and never changes.
func Words(f wire.Fingerprint) string {
	list := strings.Fields(words)
	var ws []string
	for _, b := range f[:8] {
		ws = append(ws, list[b])
	}
	return strings.Join(ws, " ")
}

const words = `
acorn actor adult agent alarm album alley almond amber anchor angle ankle apple april apron arena
armor arrow artist attic autumn award bacon baker bamboo banjo barrel beach beacon beaver belt bench
bicycle blanket bottle branch bread bridge broom butter button cabin camel camera candle canoe
canyon carbon carpet castle cattle cedar cello cement chalk cherry chess circus citizen clay cliff
clock cloud coast cobalt coffee comet copper coral cotton crane cricket crown crystal curtain dagger
daisy dancer desert diamond dinner doctor dolphin donkey dragon drawer drum eagle earth easel echo
eclipse elbow elephant ember empire engine envelope estate fabric falcon feather fence fiddle finger
flame flint flute forest fossil fountain fox galaxy garden gazelle geyser giraffe glacier globe
glove goblet granite grape guitar hammer harbor harvest hazel helmet heron hill honey horizon hotel
hunter iceberg igloo insect island ivory jacket jaguar jasmine jewel jigsaw journal jungle kayak
kernel kettle kitchen koala ladder lagoon lantern lemon leopard library lily linen lizard lobster
locket lotus lumber magnet mango maple marble meadow medal melon mirror mitten monkey mosaic napkin
nectar needle nickel novel nutmeg oasis ocean octopus olive onion opal orbit orchid oxygen oyster
paddle palace panda parrot pebble pencil pepper piano pigeon pirate planet pocket pollen poplar
potato prism quartz quilt rabbit radar raven ribbon river robin rocket saddle saffron salmon satin
saturn scissors shadow silver sketch spider spruce stable sugar summit sunset tablet temple thunder
tiger timber tomato tractor trumpet tulip tunnel turtle umbrella velvet violin volcano walnut
whistle willow window winter wizard yellow zebra zipper`
