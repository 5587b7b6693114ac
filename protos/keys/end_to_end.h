// SPDX-License-Identifier: Apache-2.0
// End-to-end encryption: who may read a dump, and reading and writing encrypted blocks.
// protos/wire/WIRE.md ("Encryption") has the format.
//
// An identity is an X25519 key pair; its public half is a recipient, which hosts are given. Each
// arming draws a dump key, which leaves in the dump once for each recipient, in a libsodium sealed
// box. Relays have neither.
//
// Everything here is thread-safe: functions of their arguments, and values. Secrets are wiped when
// their values end.
#ifndef DUMPCAST_PROTOS_KEYS_END_TO_END_H_
#define DUMPCAST_PROTOS_KEYS_END_TO_END_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "protos/keys/secret.h"
#include "protos/wire/encrypt.h"

namespace dumpcast {

using Recipient = std::array<uint8_t, 32>;  // X25519 public key
using EndToEndKey = Secret<DCAST_END_TO_END_KEY_BYTES>;

struct Identity {
  Recipient recipient{};
  Secret<32> secret;
};

// A new one, of the system's random numbers.
Identity NewIdentity();
EndToEndKey NewEndToEndKey();

// 64 hex digits. INVALID_ARGUMENT says what was wanted, and never repeats the text.
absl::StatusOr<Recipient> ParseRecipient(absl::string_view text);
std::string RecipientText(const Recipient& recipient);

// The text of an identity file: comments that name the recipient, and a line `identity hex64`.
std::string IdentityText(const Identity& identity);
// Reads such a file. NOT_FOUND, UNAVAILABLE; PERMISSION_DENIED when group or others may read or
// write it; INVALID_ARGUMENT with name and line when there is no identity in it, or several.
// Messages never repeat key material.
absl::StatusOr<Identity> LoadIdentity(const std::string& path);

// The dump's key for one recipient.
dcast_key_box MakeKeyBox(const EndToEndKey& key, const Recipient& recipient);
// What stream KEYS has for this identity.
// PERMISSION_DENIED: the dump is for others, how many. DATA_LOSS: the stream is malformed, or the
// box that is meant for the identity does not open.
absl::StatusOr<EndToEndKey> OpenKeyBox(std::string_view keys_stream, const Identity& identity);

// The keys that blocks are encrypted under. Wiped by its destructor.
struct CipherKeys : dcast_cipher_keys {
  explicit CipherKeys(const EndToEndKey& key);
  CipherKeys(const CipherKeys&) = default;
  CipherKeys& operator=(const CipherKeys&) = default;
  ~CipherKeys();
};

// Key of crash signatures, the same on all hosts with the same recipients, in whatever order.
Secret<16> SignatureKey(std::vector<Recipient> recipients);

// XChaCha20-Poly1305 in place: `data` has room for DCAST_TAG_BYTES behind its len bytes.
void EncryptInPlace(const uint8_t cipher_key[DCAST_CIPHER_KEY_BYTES], uint8_t* data, size_t len,
                    const dcast_encrypt_ad& ad, const uint8_t nonce[DCAST_NONCE_BYTES]);

// A whole encrypted encoding of `encoding` (dcast_block_hdr and payload).
std::string EncryptEncoding(const dcast_cipher_keys& keys, const uint8_t dump_id[DCAST_ID_BYTES],
                            uint8_t block_class, uint64_t number, std::string_view encoding);

// The encoding within an encrypted one. DATA_LOSS: malformed, or it is not what a holder of the key
// encrypted for this block of this dump.
absl::StatusOr<std::string> DecryptEncoding(const dcast_cipher_keys& keys,
                                            const uint8_t dump_id[DCAST_ID_BYTES],
                                            uint8_t block_class, uint64_t number,
                                            std::string_view encrypted);

// The first bytes of the encoding within, as many as sizeof(dcast_block_hdr), from the first 56 or
// more of an encrypted one. NOT authenticated: who acts on it must compare it with what
// DecryptEncoding() gives later. DATA_LOSS: malformed, or too short.
absl::StatusOr<std::string> DecryptHeaderUnchecked(const dcast_cipher_keys& keys,
                                                   std::string_view encrypted);

}  // namespace dumpcast

#endif  // DUMPCAST_PROTOS_KEYS_END_TO_END_H_
