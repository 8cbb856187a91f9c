import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type NodeId, ROOT_NODE_ID } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import type { AppliedListing, Index, ListedName, NodeRow } from '../../src/index/contract.ts';
import { openIndex } from '../../src/index/open.ts';

let root: string;
let index: Index;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tsfs-listing-'));
  index = openIndex({ path: join(root, 'index.db'), log: silentLogger });
});

afterEach(async () => {
  await index.close();
  await rm(root, { recursive: true });
});

function file(name: string, etag = 'v1', lastModifiedMs = 5000): ListedName {
  return { kind: 'file', name, sizeBytes: 10, etag, lastModifiedMs };
}

const directory = (name: string): ListedName => ({ kind: 'directory', name });

function apply(startedAtMs: number, ...names: ListedName[]): AppliedListing {
  return index.nodes.applyListing(ROOT_NODE_ID, names, startedAtMs);
}

function child(name: string): NodeRow {
  const row = index.nodes.child(ROOT_NODE_ID, name);
  if (row === undefined) throw new Error(`no ${name}`);
  return row;
}

function sweepAll(startedAtMs: number): string[] {
  const names: string[] = [];
  for (let after: number | undefined = 0; after !== undefined; ) {
    const { detached, next } = index.nodes.sweep(ROOT_NODE_ID, startedAtMs, after);
    names.push(...detached.map((row) => row.name));
    after = next;
  }
  return names;
}

describe('a page of a listing', () => {
  test('brings new names', () => {
    expect(apply(100, file('a'), directory('d'))).toEqual({ added: 2, questioned: [], replacements: [] });
    expect(child('a')).toMatchObject({
      kind: 'file',
      etag: 'v1',
      sizeBytes: 10,
      mtime: { sec: 5, nsec: 0 },
      lastModifiedMs: 5000,
      validatedAtMs: 100,
      complete: false,
    });
    expect(child('d')).toMatchObject({ kind: 'directory', complete: false, validatedAtMs: 100 });
  });

  test('vouches for what has not changed', () => {
    apply(100, file('a'), directory('d'));
    const before = { a: child('a').id, d: child('d').id };
    index.nodes.update(before.a, { complete: true, mode: 0o600, mtime: { sec: 1, nsec: 2 } });
    expect(apply(200, file('a'), directory('d'))).toEqual({ added: 0, questioned: [], replacements: [] });
    expect(child('a')).toMatchObject({ id: before.a, complete: true, mtime: { sec: 1, nsec: 2 }, validatedAtMs: 200 });
    expect(child('d')).toMatchObject({ id: before.d, validatedAtMs: 200 });
  });

  test('gives another version a new node', () => {
    apply(100, file('a'));
    const { id } = child('a');
    const { replacements } = apply(200, file('a', 'v2'));
    expect(replacements).toEqual([{ name: 'a', oldId: id, newId: child('a').id }]);
    expect(child('a')).toMatchObject({ etag: 'v2', complete: false });
    expect(index.nodes.get(id)).toMatchObject({ parent: undefined, etag: 'v1' });
  });

  test('questions the metadata when only Last-Modified is another', () => {
    apply(100, file('a', 'v1', 5000));
    const { id } = child('a');
    index.nodes.update(id, { complete: true, lastModifiedMs: 5999 });
    apply(200, file('a', 'v1', 5123));
    expect(child('a').complete).toBe(true);
    index.nodes.update(id, { mtime: { sec: 1, nsec: 0 } });
    const changed: number[] = [];
    index.nodes.onChange = (changedId) => changed.push(changedId);
    expect(apply(300, file('a', 'v1', 8000)).questioned).toEqual([{ name: 'a', id }]);
    expect(changed).toEqual([id]);
    expect(child('a')).toMatchObject({ id, complete: false, mtime: { sec: 1, nsec: 0 }, lastModifiedMs: 8000 });
    apply(400, file('a', 'v1', 8000));
    expect(child('a').mtime.sec).toBe(1);
  });

  test('learns Last-Modified after an upload of our own', () => {
    apply(100, file('a'));
    index.nodes.update(child('a').id, { etag: 'mine', complete: true });
    apply(200, file('a', 'mine', 9000));
    expect(child('a')).toMatchObject({ complete: true, lastModifiedMs: 9000 });
  });

  test('leaves local changes alone', () => {
    apply(100, file('dirty'), file('newer'), directory('d'));
    index.nodes.update(child('dirty').id, { dirty: true });
    index.nodes.update(child('newer').id, { validatedAtMs: 250 });
    apply(200, file('dirty', 'v2'), file('newer', 'v2'));
    expect(child('dirty')).toMatchObject({ etag: 'v1', validatedAtMs: 100 });
    expect(child('newer')).toMatchObject({ etag: 'v1', validatedAtMs: 250 });
    index.nodes.update(child('d').id, { dirty: true });
    expect(sweepAll(200)).toEqual([]);
  });

  test('says nothing against a symbolic link', () => {
    apply(100, file('link'));
    const { id } = child('link');
    index.nodes.update(id, { kind: 'symlink', target: 'there', complete: false, sizeBytes: 5 });
    apply(200, file('link'));
    expect(child('link')).toMatchObject({ id, kind: 'symlink', target: 'there', sizeBytes: 5, validatedAtMs: 200 });
    expect(apply(300, file('link', 'v2')).replacements).toHaveLength(1);
    expect(child('link').kind).toBe('file');
  });

  test('a directory replaces a file, also one that an earlier page of the same listing brought', () => {
    apply(100, file('a'));
    expect(apply(100, directory('a')).replacements).toHaveLength(1);
    expect(child('a').kind).toBe('directory');
    const { id } = child('a');
    apply(200, file('a'));
    apply(200, directory('a'));
    expect(sweepAll(200)).toEqual([]);
    expect(child('a')).toMatchObject({ id, kind: 'directory' });
  });

  test('a file follows a directory that is gone', () => {
    apply(100, directory('a'));
    apply(200, file('a'));
    expect(sweepAll(200)).toEqual(['a']);
    apply(300, file('a'));
    expect(child('a').kind).toBe('file');
  });

  test('a marker that the parent shows is kept', () => {
    apply(100, { kind: 'directory', name: 'd', marker: '_$folder$' });
    apply(200, directory('d'));
    expect(child('d').marker).toBe('_$folder$');
  });

  test('names are what they are, however hostile', () => {
    const names = ["'; DROP TABLE nodes; --", '__proto__', 'ü', '💥', 'a%00b', ' '];
    apply(100, ...names.map((name) => file(name)));
    expect(index.nodes.children(ROOT_NODE_ID, 0, 100).map((row) => row.name)).toEqual(names);
  });
});

test('the sweep takes what no page named, in bounded steps', () => {
  const names = Array.from({ length: 2500 }, (_, i) => `f${i}`);
  for (let i = 0; i < 3; i += 1) apply(100, ...names.slice(i * 1000, (i + 1) * 1000).map((name) => file(name)));
  const kept = names.filter((_, i) => i % 5 !== 0);
  apply(200, ...kept.map((name) => file(name)));
  const first = index.nodes.sweep(ROOT_NODE_ID, 200, 0);
  expect(first.detached.length).toBe(200);
  expect(first.next).toBeDefined();
  expect(sweepAll(200)).toHaveLength(300);
  expect(sweepAll(200)).toEqual([]);
  expect(index.nodes.children(ROOT_NODE_ID, 0, 10).map((row) => row.name)).not.toContain('f0');
  expect(index.nodes.get(first.detached[0]?.id as NodeId)?.parent).toBeUndefined();
});
