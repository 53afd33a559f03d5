// Packed bytes to arrays, and arrays to the size at which they are shown.

/** The bytes of a base64 text. */
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** The bytes of {size, deltas, data}: inflated, and summed along the last `deltas` axes. */
export async function unpack({ size, deltas, data }) {
  const packed = new Blob([fromBase64(data)]).stream();
  const inflated = packed.pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(inflated).arrayBuffer());
  for (let axis = size.length - deltas; axis < size.length; axis++) {
    accumulate(bytes, size, axis);
  }
  return bytes;
}

function accumulate(bytes, size, axis) {
  const stride = size.slice(axis + 1).reduce((product, n) => product * n, 1);
  const block = stride * size[axis];
  for (let start = 0; start < bytes.length; start += block) {
    for (let i = start + stride; i < start + block; i++) bytes[i] += bytes[i - stride];
  }
}

/** Bytes on three axes: frames or slices, rows and columns. */
export class Grid {
  constructor(bytes, size) {
    this.bytes = bytes;
    this.size = size;
    this.strides = [size[1] * size[2], size[2], 1];
  }

  static async from(packed) {
    return new Grid(await unpack(packed), packed.size);
  }

  /** The plane across an axis at a (fractional) index, as rows and columns of the other two. */
  plane({ axis, vertical, horizontal }, position) {
    const { bytes, size, strides } = this;
    const [height, width] = [size[vertical], size[horizontal]];
    const clipped = Math.min(Math.max(position, 0), size[axis] - 1);
    const below = Math.floor(clipped);
    const weight = clipped - below;
    const step = weight ? strides[axis] : 0;
    const values = new Float64Array(height * width);
    for (let y = 0, i = 0; y < height; y++) {
      let j = below * strides[axis] + y * strides[vertical];
      for (let x = 0; x < width; x++, i++, j += strides[horizontal]) {
        values[i] = bytes[j] + weight * (bytes[j + step] - bytes[j]);
      }
    }
    return { values, height, width };
  }
}

/** Where index i of `to` lies among `from`, as align_corners=False has it. */
export function rescale(i, to, from) {
  return Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
}

/** Interpolate a plane linearly to another size, as align_corners=False does. */
export function resize({ values, height, width }, rows, columns) {
  const result = new Float64Array(rows * columns);
  const xs = Float64Array.from({ length: columns }, (_, x) => rescale(x, columns, width));
  for (let y = 0, i = 0; y < rows; y++) {
    const row = rescale(y, rows, height);
    const top = Math.floor(row) * width;
    const bottom = Math.min(Math.floor(row) + 1, height - 1) * width;
    const down = row - Math.floor(row);
    for (let x = 0; x < columns; x++, i++) {
      const left = Math.floor(xs[x]);
      const right = Math.min(left + 1, width - 1);
      const across = xs[x] - left;
      const above = values[top + left] + across * (values[top + right] - values[top + left]);
      const below =
        values[bottom + left] + across * (values[bottom + right] - values[bottom + left]);
      result[i] = above + down * (below - above);
    }
  }
  return result;
}
