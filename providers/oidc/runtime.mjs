// What Node.js 18, that of Debian 12, does not have yet and the package wants. Imported before the package.
import { webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto;

URL.canParse ??= (address, base) => URL.parse(address, base) !== null;

URL.parse ??= (address, base) => {
  try {
    return new URL(address, base);
  } catch {
    return null;
  }
};
