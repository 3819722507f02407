/**
 * Text that arrives in pieces with offsets in bytes of UTF-8: overlapping pieces are cut, pieces beyond a gap wait until
 * the gap is filled. The server guarantees that overlapping pieces say the same.
 */

export interface StreamText {
  readonly text: string;
  /** Length of `text` in bytes of UTF-8. */
  readonly bytes: number;
  /** Pieces beyond a gap, by offset. */
  readonly ahead: readonly Piece[];
}
interface Piece {
  readonly offset: number;
  readonly text: string;
}

export const EMPTY_TEXT: StreamText = { text: "", bytes: 0, ahead: [] };

/** More pieces than this beyond a gap are dropped: the log brings them again. */
const AHEAD_LIMIT = 64;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function byteLength(text: string): number {
  let ascii = true;
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 127) {
      ascii = false;
      break;
    }
  }
  return ascii ? text.length : encoder.encode(text).length;
}

export function addPiece(current: StreamText, offset: number, text: string): StreamText {
  if (offset > current.bytes) {
    if (current.ahead.length >= AHEAD_LIMIT) return current;
    const ahead = [...current.ahead, { offset, text }].sort((a, b) => a.offset - b.offset);
    return { ...current, ahead };
  }
  const grown = append(current, offset, text);
  return grown === current || grown.ahead.length === 0 ? grown : drainAhead(grown);
}

/** `offset` is not beyond the end. */
function append(current: StreamText, offset: number, text: string): StreamText {
  const length = byteLength(text);
  const known = current.bytes - offset;
  if (known >= length) return current;
  const rest = known === 0 ? text : afterBytes(text, known);
  return { ...current, text: current.text + rest, bytes: offset + length };
}

function afterBytes(text: string, skip: number): string {
  return decoder.decode(encoder.encode(text).subarray(skip));
}

function drainAhead(current: StreamText): StreamText {
  let result: StreamText = { ...current, ahead: [] };
  const still: Piece[] = [];
  for (const piece of current.ahead) {
    if (piece.offset <= result.bytes) result = append(result, piece.offset, piece.text);
    else still.push(piece);
  }
  return { ...result, ahead: still };
}

export function textOf(text: string): StreamText {
  return { text, bytes: byteLength(text), ahead: [] };
}
