/** MD5s of several byte strings at once, which costs a processor far less than one after the other. */
import { createHash, type Hash } from 'node:crypto';
import { createRequire } from 'node:module';

interface Addon {
  /** How many strings cost about as much as one. */
  readonly lanes: number;
  addBlocks(states: readonly Uint32Array[], pieces: readonly Uint8Array[]): void;
}

const ADDON = process.env.TSFS_DIGEST ?? '../../build/tsfs_digest.node';
const BLOCK_BYTES = 64;
/** Fewer are as fast by themselves. */
const LANES_MIN = 3;

export interface Md5s {
  /** Adds a piece to each string, in the order of the strings: whole blocks of 64 bytes until its last one, empty ones after that. */
  update(pieces: readonly Uint8Array[]): void;
  /** Hex; nothing may be added afterwards. */
  digests(): string[];
}

const addon = load();

/** undefined: it was not built here, and nothing but time is lost. */
function load(): Addon | undefined {
  try {
    return createRequire(import.meta.url)(ADDON) as Addon;
  } catch {
    return undefined;
  }
}

export function md5s(count: number): Md5s {
  const hasLanes = addon !== undefined && count >= LANES_MIN && count <= addon.lanes;
  return hasLanes ? new LaneMd5s(addon, count) : new PlainMd5s(count);
}

class PlainMd5s implements Md5s {
  readonly #hashes: readonly Hash[];

  constructor(count: number) {
    this.#hashes = Array.from({ length: count }, () => createHash('md5'));
  }

  update(pieces: readonly Uint8Array[]): void {
    for (const [i, hash] of this.#hashes.entries()) hash.update(pieces[i] ?? new Uint8Array(0));
  }

  digests(): string[] {
    return this.#hashes.map((hash) => hash.digest('hex'));
  }
}

class LaneMd5s implements Md5s {
  readonly #addon: Addon;
  readonly #lanes: readonly Lane[];

  constructor(addon: Addon, count: number) {
    this.#addon = addon;
    this.#lanes = Array.from({ length: count }, () => new Lane());
  }

  update(pieces: readonly Uint8Array[]): void {
    // Those that end before the others are added alone.
    const ofLength = Map.groupBy(this.#lanes.entries(), ([i]) => wholeBlocks(pieces[i]?.length ?? 0));
    for (const [lengthBytes, lanes] of ofLength) {
      const states = lanes.map(([, { state }]) => state);
      if (lengthBytes > 0)
        this.#addon.addBlocks(
          states,
          lanes.map(([i]) => (pieces[i] as Uint8Array).subarray(0, lengthBytes)),
        );
    }
    for (const [i, lane] of this.#lanes.entries()) lane.note(pieces[i] ?? new Uint8Array(0));
  }

  digests(): string[] {
    return this.#lanes.map((lane) => {
      this.#addon.addBlocks([lane.state], [lane.padding()]);
      return lane.hex();
    });
  }
}

/** One string's beginning and end, as RFC 1321 has them. */
class Lane {
  readonly state = Uint32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  #lengthBytes = 0;
  /** Less than a block. */
  #rest = new Uint8Array(0);

  note(piece: Uint8Array): void {
    if (piece.length === 0) return;
    this.#lengthBytes += piece.length;
    this.#rest = piece.slice(wholeBlocks(piece.length));
  }

  /** The last blocks: what is left, a bit, zeros, and the length in bits. */
  padding(): Uint8Array {
    const blocks = Buffer.alloc(this.#rest.length + 9 > BLOCK_BYTES ? 2 * BLOCK_BYTES : BLOCK_BYTES);
    blocks.set(this.#rest);
    blocks[this.#rest.length] = 0x80;
    blocks.writeBigUInt64LE(BigInt(this.#lengthBytes) * 8n, blocks.length - 8);
    return blocks;
  }

  hex(): string {
    const bytes = Buffer.alloc(16);
    for (const [i, word] of this.state.entries()) bytes.writeUInt32LE(word, 4 * i);
    return bytes.toString('hex');
  }
}

function wholeBlocks(lengthBytes: number): number {
  return lengthBytes - (lengthBytes % BLOCK_BYTES);
}
