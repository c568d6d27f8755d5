/**
 * One YAML file becomes one frozen, validated document per command, or a list of everything that is wrong with
 * it: file, line, column, path, value and remedy. Schemas live in the features' `config.ts`; this folder only
 * composes them.
 *
 * Read next: `documents.ts`, `load-config.ts`.
 *
 * @module
 */
export * from './documents.ts'
