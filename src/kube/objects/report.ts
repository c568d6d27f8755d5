import type { ObjectReport } from '../../model/index.ts'
import type { Field } from './field.ts'

/** The type of our condition in `status.conditions`; those of others are left alone. */
export const conditionType = 'edgemesh.kubeedge.io/InForce'

/** What the status of an object says about it in our name; nothing where we said nothing yet. Never throws. */
export function parseReport({ value }: Field): { readonly reported?: ObjectReport } {
  const ours = conditionsOf(value).find(isOurs)
  if (ours === undefined) return {}
  return { reported: { isInForce: ours.status === 'True', message: String(ours.message ?? '') } }
}

/** A condition as the API has it. */
interface Condition {
  readonly type: string
  readonly status?: unknown
  readonly reason?: unknown
  readonly message?: unknown
  readonly lastTransitionTime?: unknown
}

/** The conditions of an object as the API gave it, with ours among them; the time changes with the status only. */
export function withReport(object: unknown, { isInForce, message }: ObjectReport, now: Date): readonly unknown[] {
  const known = conditionsOf(object)
  const before = known.find(isOurs)
  const status = isInForce ? 'True' : 'False'
  const isSame = before?.status === status && typeof before.lastTransitionTime === 'string'
  const ours = {
    type: conditionType,
    status,
    reason: isInForce ? 'InForce' : 'PartsNotInForce',
    message,
    lastTransitionTime: isSame ? before.lastTransitionTime : now.toISOString().replace(/\.\d+Z$/, 'Z'),
  }
  return [...known.filter((condition) => !isOurs(condition)), ours]
}

function isOurs(condition: unknown): condition is Condition {
  return typeof condition === 'object' && condition !== null && Reflect.get(condition, 'type') === conditionType
}

function conditionsOf(object: unknown): readonly unknown[] {
  const status: unknown = Reflect.get(Object(object), 'status')
  const conditions: unknown = Reflect.get(Object(status), 'conditions')
  return Array.isArray(conditions) ? conditions : []
}
