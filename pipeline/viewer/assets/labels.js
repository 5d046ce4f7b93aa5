// Chunks of label maps as they lie on the disk; the browser unpacks them. A few are kept, so memory doesn't grow.

const KEPT = 12;

export class LabelChunks {
  constructor(result) {
    this.result = result;
    this.size = result.label_size[0] * result.label_size[1];
    this.kept = new Map();
    this.coming = new Map();
  }

  /** The labels of a frame if they are here, else null; they are fetched then. */
  peek(frame) {
    const number = Math.floor(frame / this.result.chunk_frames);
    const chunk = this.kept.get(number);
    if (!chunk) return null;
    // The one used last is the last to go.
    this.kept.delete(number);
    this.kept.set(number, chunk);
    const start = (frame - number * this.result.chunk_frames) * this.size;
    return chunk.subarray(start, start + this.size);
  }

  async fetch(frame) {
    const number = Math.floor(frame / this.result.chunk_frames);
    const last = Math.floor((this.result.frames - 1) / this.result.chunk_frames);
    if (number < 0 || number > last || this.kept.has(number)) return;
    if (!this.coming.has(number)) this.coming.set(number, this.load(number));
    await this.coming.get(number);
  }

  async load(number) {
    try {
      const answer = await fetch(`labels/${this.result.number}/${number}`);
      if (!answer.ok) throw new Error((await answer.json()).error ?? `labels can't be read (${answer.status})`);
      this.kept.set(number, new Uint8Array(await answer.arrayBuffer()));
      while (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    } finally {
      this.coming.delete(number);
    }
  }
}

/** Paints label maps through a table of 256 colours. */
export class LabelPainter {
  constructor(canvas, [width, height]) {
    canvas.width = width;
    canvas.height = height;
    this.context = canvas.getContext("2d");
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  paint(labels, colors) {
    const { pixels } = this;
    for (let i = 0; i < pixels.length; i++) pixels[i] = colors[labels[i]];
    this.context.putImageData(this.image, 0, 0);
  }
}

/** The byte order of a pixel in memory is that of the machine: little-endian on all that browsers run on. */
export function colorTable(table, colors) {
  const found = new Uint32Array(256);
  for (let label = 1; label < 256; label++) {
    const code = table[label] ? colors[table[label] - 1] : undefined;
    if (!code) continue;
    const value = parseInt(code.slice(1), 16);
    found[label] = (255 << 24 | (value & 255) << 16 | (value >> 8 & 255) << 8 | value >> 16) >>> 0;
  }
  return found;
}
