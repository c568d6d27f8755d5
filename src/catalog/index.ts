/**
 * What the node knows now: folds object changes from any source into immutable snapshots and hands whole
 * snapshots, debounced, to subscribers, which converge to them (level, not edge). Pure: no I/O.
 * It does not fetch anything (`kube/` does) and decides nothing about traffic (`proxy/`, `dns/` do).
 *
 * Read next: `snapshot.ts`, `catalog.ts`, `object-sink.ts`, `stored-objects.ts`.
 *
 * @module
 */
export * from './catalog.ts'
export type * from './object-sink.ts'
export { type ObjectLists, objectKinds } from './objects.ts'
export type * from './snapshot.ts'
export * from './stored-objects.ts'
