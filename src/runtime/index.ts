/**
 * Lifecycle tools without domain words: owned background tasks, retry with back-off, attempts one beside the other,
 * abortable sleep, files that survive a power cut, folders watched for changes; and maps that change a little at a time.
 * Everything that starts in this product is owned by one of these and stops with it.
 *
 * Read next: `task-group.ts`, `state-file.ts`.
 *
 * @module
 */
export * from './abortable.ts'
export * from './backoff.ts'
export * from './first-of.ts'
export * from './folder-watch.ts'
export { FolderError, makeFolder } from './make-folder.ts'
export * from './sharded-map.ts'
export * from './sleep.ts'
export * from './state-file.ts'
export * from './task-group.ts'
export * from './time-limit.ts'
export * from './trimmed.ts'
