// SPDX-License-Identifier: Apache-2.0
#include "protos/keys/end_to_end.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "protos/keys/private_file.h"

namespace dumpcast {
namespace {

static_assert(crypto_box_PUBLICKEYBYTES == std::tuple_size_v<Recipient>);
static_assert(crypto_box_SECRETKEYBYTES == Secret<32>::size());
static_assert(crypto_box_SEALBYTES + DCAST_END_TO_END_KEY_BYTES == sizeof(dcast_key_box::box));
static_assert(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == DCAST_CIPHER_KEY_BYTES);
static_assert(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES == DCAST_NONCE_BYTES);
static_assert(crypto_aead_xchacha20poly1305_ietf_ABYTES == DCAST_TAG_BYTES);
static_assert(crypto_kdf_KEYBYTES == DCAST_END_TO_END_KEY_BYTES);

constexpr char kContext[] = "dumpcast";  // crypto_kdf_CONTEXTBYTES, without the NUL
static_assert(sizeof(kContext) - 1 == crypto_kdf_CONTEXTBYTES);
constexpr uint64_t kCipherSubkey = 1;
constexpr uint64_t kNonceSubkey = 2;

constexpr std::string_view kSignatureLabel = "dumpcast crash signature v1";
constexpr absl::string_view kIdentityWord = "identity";

// Ready, or the process ends: without random numbers nothing here is safe.
void InitSodium() {
  static const int ready = sodium_init();
  if (ready < 0) std::abort();
}

// BLAKE2b-128.
std::array<uint8_t, sizeof(dcast_key_box::recipient)> RecipientId(const Recipient& recipient) {
  std::array<uint8_t, sizeof(dcast_key_box::recipient)> id;
  crypto_generichash(id.data(), id.size(), recipient.data(), recipient.size(), nullptr, 0);
  return id;
}

bool ParseHex32(absl::string_view text, uint8_t out[32]) {
  size_t bytes = 0;
  return text.size() == 64 &&
         sodium_hex2bin(out, 32, text.data(), text.size(), nullptr, &bytes, nullptr) == 0 &&
         bytes == 32;
}

absl::Status Malformed(std::string_view what) {
  return absl::DataLossError(
      absl::StrCat("encrypted block: ", absl::string_view(what.data(), what.size())));
}

// Checks what is in the clear of an encrypted encoding, of which `encrypted` is the begin.
absl::StatusOr<dcast_block_hdr> OuterHeader(std::string_view encrypted) {
  dcast_block_hdr hdr;
  if (encrypted.size() < DCAST_ENCRYPTED_HDR_BYTES) {
    return Malformed(absl::StrFormat("%d bytes: wanted a header and nonce of %d", encrypted.size(),
                                     DCAST_ENCRYPTED_HDR_BYTES));
  }
  std::memcpy(&hdr, encrypted.data(), sizeof(hdr));
  if (hdr.cipher != DCAST_CIPHER_XCHACHA20_POLY1305) {
    return Malformed(absl::StrFormat("cipher %d: wanted %d, XChaCha20-Poly1305", hdr.cipher,
                                     DCAST_CIPHER_XCHACHA20_POLY1305));
  }
  dcast_block_hdr wanted;
  dcast_encrypted_hdr(&wanted, dcast_le32(hdr.raw_len));
  if (std::memcmp(&wanted, &hdr, sizeof(hdr)) != 0) {
    return Malformed("its outer header says more than cipher and length");
  }
  return hdr;
}

const uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

}  // namespace

Identity NewIdentity() {
  InitSodium();
  Identity identity;
  crypto_box_keypair(identity.recipient.data(), identity.secret.data());
  return identity;
}

EndToEndKey NewEndToEndKey() {
  InitSodium();
  EndToEndKey key;
  crypto_kdf_keygen(key.data());
  return key;
}

absl::StatusOr<Recipient> ParseRecipient(absl::string_view text) {
  Recipient recipient;
  if (!ParseHex32(text, recipient.data())) {
    return absl::InvalidArgumentError(
        absl::StrCat("wanted a recipient of 64 hex digits, as `dumpcast keygen` prints it; this "
                     "has ",
                     text.size(), " characters"));
  }
  InitSodium();
  // Nobody could open a box for a point of small order (RFC 7748, 6.1), zeros for one.
  const std::array<uint8_t, crypto_scalarmult_SCALARBYTES> any{};
  std::array<uint8_t, crypto_scalarmult_BYTES> shared;
  if (crypto_scalarmult(shared.data(), any.data(), recipient.data()) != 0) {
    return absl::InvalidArgumentError(
        "wanted a recipient as `dumpcast keygen` prints it; these digits are no public key");
  }
  return recipient;
}

std::string RecipientText(const Recipient& recipient) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(recipient.data()), recipient.size()));
}

std::string IdentityText(const Identity& identity) {
  char hex[2 * Secret<32>::size() + 1];
  sodium_bin2hex(hex, sizeof(hex), identity.secret.data(), identity.secret.size());
  std::string text = absl::StrCat(
      "# Opens the dumps of hosts that have this recipient. Keep it secret.\n"
      "# recipient: ",
      RecipientText(identity.recipient), "\n", kIdentityWord, " ", hex, "\n");
  sodium_memzero(hex, sizeof(hex));
  return text;
}

absl::StatusOr<Identity> LoadIdentity(const std::string& path) {
  InitSodium();
  absl::StatusOr<std::string> text = ReadPrivateFile(
      path, {.what = "identity file", .danger = "who reads it can read the dumps that it opens"});
  if (!text.ok()) return text.status();
  Identity identity;
  int line_number = 0;
  bool found = false;
  absl::Status status;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const size_t space = line.find_first_of(" \t");
    const absl::string_view value =
        space == absl::string_view::npos ? "" : absl::StripAsciiWhitespace(line.substr(space));
    if (found || line.substr(0, space) != kIdentityWord ||
        !ParseHex32(value, identity.secret.data())) {
      status = absl::InvalidArgumentError(
          absl::StrCat(path, ":", line_number, ": wanted one line `", kIdentityWord,
                       "` and 64 hex digits, as `dumpcast keygen` writes it"));
      break;
    }
    found = true;
  }
  sodium_memzero(text->data(), text->size());
  if (!status.ok()) return status;
  if (!found) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": no identity in it; `dumpcast keygen` makes one"));
  }
  crypto_scalarmult_base(identity.recipient.data(), identity.secret.data());
  return identity;
}

dcast_key_box MakeKeyBox(const EndToEndKey& key, const Recipient& recipient) {
  InitSodium();
  dcast_key_box box;
  const auto id = RecipientId(recipient);
  std::copy(id.begin(), id.end(), box.recipient);
  // Fails only for a public key of small order, which then gets a box that nobody opens.
  if (crypto_box_seal(box.box, key.data(), key.size(), recipient.data()) != 0) {
    randombytes_buf(box.box, sizeof(box.box));
  }
  return box;
}

absl::StatusOr<EndToEndKey> OpenKeyBox(std::string_view keys_stream, const Identity& identity) {
  InitSodium();
  if (keys_stream.empty() || keys_stream.size() % sizeof(dcast_key_box) != 0) {
    return absl::DataLossError(absl::StrFormat("stream KEYS: %d bytes: wanted entries of %d",
                                               keys_stream.size(), sizeof(dcast_key_box)));
  }
  const auto id = RecipientId(identity.recipient);
  for (size_t at = 0; at < keys_stream.size(); at += sizeof(dcast_key_box)) {
    dcast_key_box box;
    std::memcpy(&box, keys_stream.data() + at, sizeof(box));
    if (!std::equal(id.begin(), id.end(), box.recipient)) continue;
    EndToEndKey key;
    if (crypto_box_seal_open(key.data(), box.box, sizeof(box.box), identity.recipient.data(),
                             identity.secret.data()) != 0) {
      return absl::DataLossError("stream KEYS: the entry for this identity does not open");
    }
    return key;
  }
  return absl::PermissionDeniedError(
      absl::StrCat("this identity cannot read the dump: its host was armed for ",
                   keys_stream.size() / sizeof(dcast_key_box), " other recipients"));
}

CipherKeys::CipherKeys(const EndToEndKey& key) {
  Secret<16> nonce_key;
  crypto_kdf_derive_from_key(cipher, sizeof(cipher), kCipherSubkey, kContext, key.data());
  crypto_kdf_derive_from_key(nonce_key.data(), nonce_key.size(), kNonceSubkey, kContext,
                             key.data());
  nonce.k0 = dcast_load64(nonce_key.data());
  nonce.k1 = dcast_load64(nonce_key.data() + 8);
}

CipherKeys::~CipherKeys() {
  sodium_memzero(static_cast<dcast_cipher_keys*>(this), sizeof(dcast_cipher_keys));
}

Secret<16> SignatureKey(std::vector<Recipient> recipients) {
  std::sort(recipients.begin(), recipients.end());
  recipients.erase(std::unique(recipients.begin(), recipients.end()), recipients.end());
  crypto_generichash_state state;
  Secret<16> key;
  crypto_generichash_init(&state, nullptr, 0, key.size());
  crypto_generichash_update(&state, Bytes(kSignatureLabel), kSignatureLabel.size());
  for (const Recipient& recipient : recipients) {
    crypto_generichash_update(&state, recipient.data(), recipient.size());
  }
  crypto_generichash_final(&state, key.data(), key.size());
  return key;
}

void EncryptInPlace(const uint8_t cipher_key[DCAST_CIPHER_KEY_BYTES], uint8_t* data, size_t len,
                    const dcast_encrypt_ad& ad, const uint8_t nonce[DCAST_NONCE_BYTES]) {
  crypto_aead_xchacha20poly1305_ietf_encrypt_detached(data, data + len, nullptr, data, len,
                                                      reinterpret_cast<const uint8_t*>(&ad),
                                                      sizeof(ad), nullptr, nonce, cipher_key);
}

std::string EncryptEncoding(const dcast_cipher_keys& keys, const uint8_t dump_id[DCAST_ID_BYTES],
                            uint8_t block_class, uint64_t number, std::string_view encoding) {
  const auto len = static_cast<uint32_t>(encoding.size());
  dcast_encrypt_ad ad;
  uint8_t nonce[DCAST_NONCE_BYTES];
  dcast_encrypt_ad_init(&ad, len, dump_id, block_class, number);
  dcast_encrypt_nonce(&keys.nonce, &ad, encoding.data(), len, nonce);
  std::string out(reinterpret_cast<const char*>(&ad.hdr), sizeof(ad.hdr));
  out.append(reinterpret_cast<const char*>(nonce), sizeof(nonce));
  out.append(encoding);
  out.resize(out.size() + DCAST_TAG_BYTES);
  EncryptInPlace(keys.cipher, reinterpret_cast<uint8_t*>(out.data()) + DCAST_ENCRYPTED_HDR_BYTES,
                 encoding.size(), ad, nonce);
  return out;
}

absl::StatusOr<std::string> DecryptEncoding(const dcast_cipher_keys& keys,
                                            const uint8_t dump_id[DCAST_ID_BYTES],
                                            uint8_t block_class, uint64_t number,
                                            std::string_view encrypted) {
  const absl::StatusOr<dcast_block_hdr> hdr = OuterHeader(encrypted);
  if (!hdr.ok()) return hdr.status();
  const uint64_t len = dcast_le32(hdr->raw_len);
  if (encrypted.size() != DCAST_ENCRYPTED_HDR_BYTES + len + DCAST_TAG_BYTES) {
    return Malformed(absl::StrFormat("%d bytes: its header says %d", encrypted.size(),
                                     DCAST_ENCRYPTED_HDR_BYTES + len + DCAST_TAG_BYTES));
  }
  dcast_encrypt_ad ad;
  dcast_encrypt_ad_init(&ad, static_cast<uint32_t>(len), dump_id, block_class, number);
  const uint8_t* nonce = Bytes(encrypted) + sizeof(*hdr);
  const uint8_t* data = Bytes(encrypted) + DCAST_ENCRYPTED_HDR_BYTES;
  std::string encoding(len, '\0');
  if (crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
          reinterpret_cast<uint8_t*>(encoding.data()), nullptr, data, len, data + len,
          reinterpret_cast<const uint8_t*>(&ad), sizeof(ad), nonce, keys.cipher) != 0) {
    return Malformed("it does not open: damaged, forged, or of another dump or block");
  }
  return encoding;
}

absl::StatusOr<std::string> DecryptHeaderUnchecked(const dcast_cipher_keys& keys,
                                                   std::string_view encrypted) {
  const absl::StatusOr<dcast_block_hdr> hdr = OuterHeader(encrypted);
  if (!hdr.ok()) return hdr.status();
  std::string header(sizeof(dcast_block_hdr), '\0');
  if (dcast_le32(hdr->raw_len) < header.size() ||
      encrypted.size() < DCAST_ENCRYPTED_HDR_BYTES + header.size()) {
    return Malformed(
        absl::StrFormat("%d bytes: wanted a header of %d within", encrypted.size(), header.size()));
  }
  // The first block of the stream is Poly1305's key (RFC 8439, 2.8).
  crypto_stream_xchacha20_xor_ic(reinterpret_cast<uint8_t*>(header.data()),
                                 Bytes(encrypted) + DCAST_ENCRYPTED_HDR_BYTES, header.size(),
                                 Bytes(encrypted) + sizeof(*hdr), 1, keys.cipher);
  return header;
}

}  // namespace dumpcast
