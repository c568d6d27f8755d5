/**
 * One YAML file becomes one frozen, validated document per command, or a list of everything that is wrong with
 * it: file, line, column, path, value and remedy. Schemas live in the features' `config.ts`; this folder composes
 * them and derives from them the messages, the notices, the JSON Schema and docs/reference/config.md.
 * It does not decide what a command does with its configuration.
 *
 * Read next: `documents.ts`, `load-config.ts`, `check-meaning.ts`.
 *
 * @module
 */
export * from './changed-keys.ts'
export * from './check-files.ts'
export * from './documents.ts'
export {
  defaultConfigFileOf,
  type Environment,
  type LoadedConfig,
  loadConfig,
  openConfig,
  parseConfig,
  roleOfFile,
  runtimeDirOf,
} from './load-config.ts'
export * from './problem.ts'
export * from './samples.ts'
export { isRole, jsonSchemaOf, type SchemaNode } from './schema-tree.ts'
