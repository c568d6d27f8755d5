import { valueAt } from './explain-issues.ts'
import { renderPath } from './problem.ts'
import type { SchemaNode } from './schema-tree.ts'
import type { YamlDocument } from './yaml-document.ts'

/**
 * One line for each key of the document that asks for something this version does not do. Keys that ask for
 * nothing (false, empty, a group that is not enabled) are silent: nothing is what they get.
 */
export function noticesOf(config: unknown, document: YamlDocument, tree: SchemaNode): string[] {
  return collect(tree, document.value, [], config)
    .filter(({ path }) => !isSwitchedOff(config, path))
    .map(({ path, reason }) => {
      const { line, column } = document.positionOf(path)
      return `${document.file}:${line}:${column}: ${renderPath(path)}: ${reason}`
    })
}

interface Mark {
  readonly path: readonly PropertyKey[]
  readonly reason: string
}

function collect(node: SchemaNode, value: unknown, path: readonly PropertyKey[], config: unknown): Mark[] {
  const reason = reasonOf(node, valueAt(config, [...path.slice(0, -1), node.ignoredUnless?.key ?? '']))
  if (reason !== undefined) return asksForNothing(value) ? [] : [{ path, reason }]
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, child]) => {
    const next = Array.isArray(value) ? node.items : node.properties?.[key]
    return next === undefined ? [] : collect(next, child, [...path, Array.isArray(value) ? Number(key) : key], config)
  })
}

function reasonOf({ noEffect, ignored, ignoredUnless }: SchemaNode, needed: unknown): string | undefined {
  if (noEffect !== undefined) return `has no effect yet: ${noEffect}`
  if (ignoredUnless !== undefined && needed !== ignoredUnless.value) return `has no effect: ${ignoredUnless.why}`
  return ignored === undefined ? undefined : `has no effect: ${ignored}`
}

function asksForNothing(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.values(value).every(asksForNothing)
  return value === false || value === '' || value === null || value === undefined
}

/** True for a group with an `enable` that is false, written or by default. */
function isSwitchedOff(config: unknown, path: readonly PropertyKey[]): boolean {
  return valueAt(config, [...path, 'enable']) === false
}
