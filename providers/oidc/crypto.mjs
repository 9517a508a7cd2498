// `node:crypto` with what that of Node.js 18 does not have; the bundle is made with it in that one's place.
import { createHash } from 'crypto';

export * from 'crypto';
export { default } from 'crypto';

export const hash = (algorithm, data, encoding = 'hex') => {
  const digest = createHash(algorithm).update(data);
  return encoding === 'buffer' ? digest.digest() : digest.digest(encoding);
};
