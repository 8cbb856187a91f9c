// Exits 0 when node_modules holds what package-lock.json asks for, told by the record that npm keeps beside it.
// CommonJS, as it may run before anything is installed.
const { readFileSync } = require('node:fs');

function packagesOf(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return {};
  }
}

const installed = packagesOf('node_modules/.package-lock.json');
const wanted = Object.entries(packagesOf('package-lock.json')).filter(([path]) => path !== '');
// Optional packages are those of other machines, or ones that did not install: not having them is no reason to try again.
const isMissing = ([path, { version, optional }]) =>
  installed[path] === undefined ? !optional : installed[path].version !== version;
process.exit(wanted.some(isMissing) ? 1 : 0);
