// A JPEG or PNG file → {levels, rows, columns}, decoded by the browser.

/** Luminance (ITU-R BT.601) of a picture as viewers show it: EXIF turns it, no colour profile does.
 *
 * What alpha hides is black. Throws where the file is none, breaks off, or has more than 8 bits,
 * which a browser would cut down.
 */
export async function readFilm(file) {
  check(new Uint8Array(await file.arrayBuffer()));
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new Error("The picture cannot be decoded.");
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const levels = new Uint8Array(data.length / 4);
  for (let pixel = 0; pixel < levels.length; pixel++) {
    const at = 4 * pixel;
    levels[pixel] = Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);
  }
  return { levels, rows: bitmap.height, columns: bitmap.width };
}

const PNG = [0x89, 0x50, 0x4e, 0x47], JPEG = [0xff, 0xd8, 0xff];
const PNG_DEPTH_AT = 24;
const IEND = [0x49, 0x45, 0x4e, 0x44], SCAN = [0xff, 0xda], END = [0xff, 0xd9];

/** Browsers show what there is of a broken file, and half a film may look healthy. */
function check(bytes) {
  const begins = (magic) => magic.every((byte, index) => bytes[index] === byte);
  if (begins(PNG)) {
    if (lastOf(bytes, IEND) < 0) throw new Error("The PNG ends before its picture does: copy it again.");
    if (bytes[PNG_DEPTH_AT] > 8) throw new Error("The PNG has 16 bits: here only 8 are read.");
  } else if (begins(JPEG)) {
    // Inside a scan 0xff is always followed by 0x00 or a restart marker; a thumbnail stands before it.
    if (lastOf(bytes, END) < lastOf(bytes, SCAN)) throw new Error("The JPEG ends before its picture does: copy it again.");
  } else {
    throw new Error("The file is neither JPEG nor PNG. DICOM is read by the Screen worker only.");
  }
}

function lastOf(bytes, marker) {
  for (let at = bytes.length - marker.length; at >= 0; at--) {
    if (marker.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  return -1;
}
