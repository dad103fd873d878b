/* A PKCS #11 module that passes everything on to the one at MODULE, but for what the
 * RULES refuse: the mechanisms and key types that another maker's engine lacks.
 * Compiled for each engine by hsmtest.Engine. */
#include <dlfcn.h>
#include <string.h>

typedef unsigned long ulong;
typedef struct { ulong type; void *value; ulong length; } attribute;
typedef struct { ulong number; void *parameter; ulong length; } mechanism;
typedef struct { unsigned char version[2], maker[32]; ulong flags; unsigned char library[32], libraryVersion[2]; } info;
typedef struct { unsigned char version[2]; void *f[68]; } functions; /* CK_FUNCTION_LIST 2.x */

/* Places in CK_FUNCTION_LIST. */
enum { GetInfo = 2, GetFunctionList = 3, CreateObject = 20, EncryptInit = 29, SignInit = 42, GenerateKey = 58, GenerateKeyPair = 59, WrapKey = 60, UnwrapKey = 61, DeriveKey = 62 };

enum { CLASS = 0, TEMPLATE_INCONSISTENT = 0xD1, MECHANISM_INVALID = 0x70, ATTRIBUTE_VALUE_INVALID = 0x13, GENERAL_ERROR = 5, KEY_TYPE = 0x100 };

/* what: e(ncrypt) s(ign) g(enerate) w(rap) u(nwrap) d(erive) with a mechanism, k(ey
 * type), c(reate an object of a class) */
static const struct { char what; ulong number; } rules[] = { RULES { 0, 0 } };

static functions inner, outer;

static int refused(char what, ulong number) {
	for (int i = 0; rules[i].what; i++)
		if (rules[i].what == what && rules[i].number == number) return 1;
	return 0;
}

static int refusedBy(char what, ulong type, attribute *a, ulong n) {
	for (ulong i = 0; i < n; i++)
		if (a[i].type == type && a[i].length == sizeof(ulong) && refused(what, *(ulong *)a[i].value)) return 1;
	return 0;
}

static int refusedType(attribute *a, ulong n) { return refusedBy('k', KEY_TYPE, a, n); }

static ulong getInfo(info *i) {
	ulong rv = ((ulong (*)(info *))inner.f[GetInfo])(i);
	memset(i->library, ' ', sizeof i->library);
	memcpy(i->library, NAME, strlen(NAME));
	return rv;
}

static ulong createObject(ulong s, attribute *a, ulong n, ulong *o) {
	if (refusedType(a, n)) return ATTRIBUTE_VALUE_INVALID;
	if (refusedBy('c', CLASS, a, n)) return TEMPLATE_INCONSISTENT;
	return ((ulong (*)(ulong, attribute *, ulong, ulong *))inner.f[CreateObject])(s, a, n, o);
}

static ulong encryptInit(ulong s, mechanism *m, ulong k) {
	if (refused('e', m->number)) return MECHANISM_INVALID;
	return ((ulong (*)(ulong, mechanism *, ulong))inner.f[EncryptInit])(s, m, k);
}

static ulong signInit(ulong s, mechanism *m, ulong k) {
	if (refused('s', m->number)) return MECHANISM_INVALID;
	return ((ulong (*)(ulong, mechanism *, ulong))inner.f[SignInit])(s, m, k);
}

static ulong generateKey(ulong s, mechanism *m, attribute *a, ulong n, ulong *k) {
	if (refused('g', m->number)) return MECHANISM_INVALID;
	return ((ulong (*)(ulong, mechanism *, attribute *, ulong, ulong *))inner.f[GenerateKey])(s, m, a, n, k);
}

static ulong generateKeyPair(ulong s, mechanism *m, attribute *a, ulong n, attribute *b, ulong l, ulong *pub, ulong *priv) {
	if (refused('g', m->number)) return MECHANISM_INVALID;
	return ((ulong (*)(ulong, mechanism *, attribute *, ulong, attribute *, ulong, ulong *, ulong *))inner.f[GenerateKeyPair])(s, m, a, n, b, l, pub, priv);
}

static ulong wrapKey(ulong s, mechanism *m, ulong under, ulong k, void *out, ulong *n) {
	if (refused('w', m->number)) return MECHANISM_INVALID;
	return ((ulong (*)(ulong, mechanism *, ulong, ulong, void *, ulong *))inner.f[WrapKey])(s, m, under, k, out, n);
}

static ulong unwrapKey(ulong s, mechanism *m, ulong under, void *in, ulong l, attribute *a, ulong n, ulong *k) {
	if (refused('u', m->number)) return MECHANISM_INVALID;
	if (refusedType(a, n)) return ATTRIBUTE_VALUE_INVALID;
	return ((ulong (*)(ulong, mechanism *, ulong, void *, ulong, attribute *, ulong, ulong *))inner.f[UnwrapKey])(s, m, under, in, l, a, n, k);
}

static ulong deriveKey(ulong s, mechanism *m, ulong base, attribute *a, ulong n, ulong *k) {
	if (refused('d', m->number)) return MECHANISM_INVALID;
	if (refusedType(a, n)) return ATTRIBUTE_VALUE_INVALID;
	return ((ulong (*)(ulong, mechanism *, ulong, attribute *, ulong, ulong *))inner.f[DeriveKey])(s, m, base, a, n, k);
}

ulong C_GetFunctionList(functions **list) {
	functions *theirs;
	void *library = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
	if (!library) return GENERAL_ERROR;
	ulong (*get)(functions **) = (ulong (*)(functions **))dlsym(library, "C_GetFunctionList");
	if (!get || get(&theirs)) return GENERAL_ERROR;
	inner = outer = *theirs;
	outer.f[GetInfo] = getInfo;
	outer.f[GetFunctionList] = C_GetFunctionList;
	outer.f[CreateObject] = createObject;
	outer.f[EncryptInit] = encryptInit;
	outer.f[SignInit] = signInit;
	outer.f[GenerateKey] = generateKey;
	outer.f[GenerateKeyPair] = generateKeyPair;
	outer.f[WrapKey] = wrapKey;
	outer.f[UnwrapKey] = unwrapKey;
	outer.f[DeriveKey] = deriveKey;
	*list = &outer;
	return 0;
}
