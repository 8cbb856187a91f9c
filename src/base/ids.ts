/** Number types that must not be mixed up. A brand exists only for the compiler. */
declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/**
 * A file, directory or symbolic link, as the kernel names it (FUSE node id) and as the index stores it (primary key).
 * One node is one object version as others made it: when somebody else replaces the object, the name gets a new node.
 * Never reused, at most 2^53 − 1.
 */
export type NodeId = Branded<number, 'NodeId'>;

/** The bytes of one object version in the block cache. Allocated by the index, never reused. */
export type ContentId = Branded<number, 'ContentId'>;

/** FUSE's root node (FUSE_ROOT_ID). */
export const ROOT_NODE_ID = 1 as NodeId;

/** Node ids below this are reserved: 1 is the root, and directory offsets 1 and 2 stand for `.` and `..`. */
export const FIRST_NODE_ID = 16;
