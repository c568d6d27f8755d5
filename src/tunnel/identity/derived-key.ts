import { createHash } from 'node:crypto'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import type { Identity } from './identity.ts'

/*
 * The Go system makes a node's key from its name: MD5 of the name, its first 8 bytes as the seed of Go's math/rand,
 * and 32 bytes drawn from that as the seed of an Ed25519 key. Whoever knows a name can make its key, and there are
 * only 2^31 of them: such an identity proves nothing.
 */

const modulus = 2 ** 31 - 1
const multiplier = 48_271
/** What Go takes when the seed is a multiple of the modulus. */
const seedForZero = 89_482_311

const stateLength = 607
/** The generator's first outputs add state[333 - k] and state[606 - k]; five outputs of 7 bytes give 32. */
const outputs = 5
const bytesPerOutput = 7
const seedBytes = 32

/** The entries of math/rand's table of additive constants that the first five outputs need. */
const additives = new Map<number, bigint>([
  [329, 10844171820851731551n],
  [330, 220828013409515943n],
  [331, 17373756736854165569n],
  [332, 4287360518296753003n],
  [333, 13813372221700659651n],
  [602, 12168274672532238855n],
  [603, 16275451110348240942n],
  [604, 8382142935188824023n],
  [605, 9103922860780351547n],
  [606, 4152330101494654406n],
])

/** The identity that the Go system gives to a node of this name; a gateway's name ends in `-gateway`. */
export async function deriveIdentity(nodeName: string): Promise<Identity> {
  const privateKey = await generateKeyPairFromSeed('Ed25519', derivedSeedOf(nodeName))
  return { peerId: peerIdFromPrivateKey(privateKey).toString(), privateKey }
}

/** The 32 byte seed (RFC 8032) of the derived key. */
export function derivedSeedOf(nodeName: string): Uint8Array {
  const state = stateOf(createHash('md5').update(nodeName, 'utf8').digest().readBigInt64BE(0))
  const bytes = Buffer.alloc(outputs * bytesPerOutput)
  for (let index = 0; index < outputs; index++) {
    const sum = (state.get(333 - index) ?? 0n) + (state.get(606 - index) ?? 0n)
    writeOutput(bytes, index * bytesPerOutput, BigInt.asUintN(63, sum))
  }
  return new Uint8Array(bytes.subarray(0, seedBytes))
}

/** The entries of the generator's state that are in use, after seeding. */
function stateOf(seed: bigint): Map<number, bigint> {
  let x = Number(seed % BigInt(modulus))
  if (x < 0) x += modulus
  if (x === 0) x = seedForZero
  const step = () => {
    // Below 2^53: both factors are under 2^31 and 2^16.
    x = (x * multiplier) % modulus
    return BigInt(x)
  }
  for (let index = 0; index < 20; index++) step()
  const state = new Map<number, bigint>()
  for (let index = 0; index < stateLength; index++) {
    const value = (step() << 40n) ^ (step() << 20n) ^ step()
    const additive = additives.get(index)
    if (additive !== undefined) state.set(index, BigInt.asUintN(64, value) ^ additive)
  }
  return state
}

/** Lowest byte first; the eighth byte is never used. */
function writeOutput(bytes: Buffer, offset: number, output: bigint): void {
  for (let index = 0; index < bytesPerOutput; index++) {
    bytes[offset + index] = Number((output >> BigInt(8 * index)) & 0xffn)
  }
}
