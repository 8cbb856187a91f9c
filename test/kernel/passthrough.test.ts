import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { Passthrough } from '../../src/kernel/passthrough.ts';

const NODE = 20 as NodeId;
const OTHER = 21 as NodeId;
const EPERM = 1;

class FakeBacking {
  readonly registered = new Set<number>();
  refuse = false;
  opens = 0;

  open(): number {
    this.opens += 1;
    if (this.refuse) return -EPERM;
    this.registered.add(this.opens);
    return this.opens;
  }

  inodeOf(fd: number): number {
    return fd;
  }

  close(backingId: number): number {
    return this.registered.delete(backingId) ? 0 : EPERM;
  }
}

function setUp(wanted = true): { backing: FakeBacking; passthrough: Passthrough } {
  const backing = new FakeBacking();
  return { backing, passthrough: new Passthrough(backing, silentLogger, wanted) };
}

describe('passthrough', () => {
  test('all opens of a node share one backing id, given back at the last release', () => {
    const { backing, passthrough } = setUp();
    const first = passthrough.open(NODE, 5).backingId;
    expect(first).toBeGreaterThan(0);
    expect(passthrough.open(NODE, 6).backingId).toBe(first);
    expect(passthrough.open(NODE, undefined).backingId).toBe(first);
    expect(backing.opens).toBe(1);
    passthrough.close(NODE, first);
    passthrough.close(NODE, first);
    expect(backing.registered.size).toBe(1);
    passthrough.close(NODE, first);
    expect(backing.registered.size).toBe(0);
    expect(passthrough.status()).toEqual({ state: 'on', nodes: 0 });
  });

  test('a node that is open otherwise is not opened in passthrough until that has ended', () => {
    const { passthrough } = setUp();
    expect(passthrough.open(NODE, undefined).backingId).toBe(0);
    expect(passthrough.open(NODE, 5).backingId).toBe(0);
    expect(passthrough.open(OTHER, 6).backingId).toBeGreaterThan(0);
    passthrough.close(NODE, 0);
    expect(passthrough.open(NODE, 5).backingId).toBe(0);
    passthrough.close(NODE, 0);
    passthrough.close(NODE, 0);
    expect(passthrough.open(NODE, 5).backingId).toBeGreaterThan(0);
  });

  test('one refusal is final', () => {
    const { backing, passthrough } = setUp();
    backing.refuse = true;
    expect(passthrough.open(NODE, 5).backingId).toBe(0);
    backing.refuse = false;
    expect(passthrough.open(OTHER, 6).backingId).toBe(0);
    expect(backing.opens).toBe(1);
    expect(passthrough.status().state).toBe('failed: EPERM');
  });

  test('after a refusal, nodes that are open in passthrough stay so', () => {
    const { backing, passthrough } = setUp();
    const id = passthrough.open(NODE, 5).backingId;
    backing.refuse = true;
    expect(passthrough.open(OTHER, 6).backingId).toBe(0);
    expect(passthrough.open(NODE, undefined).backingId).toBe(id);
  });

  test('switched off, or not offered', () => {
    const off = setUp(false);
    expect(off.passthrough.open(NODE, 5).backingId).toBe(0);
    expect(off.passthrough.status().state).toBe('switched off');
    const { backing, passthrough } = setUp();
    passthrough.negotiated(false);
    expect(passthrough.open(NODE, 5).backingId).toBe(0);
    expect(backing.opens).toBe(0);
    expect(passthrough.status().state).toBe('not offered by the kernel');
  });

  test('releases of opens that another process answered change nothing', () => {
    const { passthrough } = setUp();
    passthrough.close(NODE, 3);
    passthrough.close(NODE, 0);
    const id = passthrough.open(NODE, 5).backingId;
    passthrough.close(NODE, 99);
    passthrough.close(NODE, 0);
    expect(passthrough.open(NODE, undefined).backingId).toBe(id);
  });

  test('whatever is opened and closed, the rules of the kernel hold', () => {
    const step = fc.record({ node: fc.constantFrom(NODE, OTHER), close: fc.boolean(), offer: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { backing, passthrough } = setUp();
        const open = new Map<NodeId, number[]>([
          [NODE, []],
          [OTHER, []],
        ]);
        for (const { node, close, offer } of steps) {
          const handles = open.get(node) ?? [];
          const handle = close ? handles.shift() : undefined;
          if (handle !== undefined) passthrough.close(node, handle);
          else handles.push(passthrough.open(node, offer ? 5 : undefined).backingId);
          expect(new Set(handles).size).toBeLessThanOrEqual(1);
        }
        const held = [...open.values()].flatMap((handles) => handles.filter((id) => id > 0));
        expect(backing.registered).toEqual(new Set(held));
      }),
    );
  });
});
