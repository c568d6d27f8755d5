import type { Pod } from '../../model/index.ts'
import { Field } from './field.ts'
import { parseIdentity } from './metadata.ts'
import { type Note, noNote, usableItems } from './note.ts'

/** A core/v1 Pod; throws `ObjectParseError`. */
export function parsePod(value: unknown, note: Note = noNote): Pod {
  const object = new Field(value)
  const status = object.at('status')
  const phase = status.at('phase').text()
  // The addresses of a Pod that has ended may be those of another one by now.
  const hasEnded = phase === 'Succeeded' || phase === 'Failed'
  const nodeName = object.at('spec', 'nodeName').text()
  return {
    ...parseIdentity(object),
    labels: object.at('metadata', 'labels').textMap(),
    ...(nodeName !== '' && { nodeName }),
    podIPs: hasEnded ? [] : parsePodIPs(status, note),
    ready: !hasEnded && isReady(status, note),
  }
}

function parsePodIPs(status: Field, note: Note): string[] {
  const listed = usableItems(
    () => status.at('podIPs'),
    (item) => item.at('ip').ip(),
    note,
  )
  if (listed.length > 0 || status.at('podIP').text() === '') return [...new Set(listed)]
  return [status.at('podIP').ip()]
}

function isReady(status: Field, note: Note): boolean {
  const states = usableItems(
    () => status.at('conditions'),
    (item) => (item.at('type').text() === 'Ready' ? item.at('status').text() : undefined),
    note,
  )
  return states.includes('True')
}
