import type { ObjectKind, ObjectSink } from '../../catalog/index.ts'
import { aborted, sleep, TaskGroup } from '../../runtime/index.ts'
import type { ResourceStatus } from '../object-source.ts'
import { MergedSelections, selectionKeyOf, Wishes } from './chosen-objects.ts'
import type { Reflector } from './reflector.ts'
import type { KindChoice, Selection } from './resources.ts'

/** What following the chosen objects of a kind needs. */
export interface ChoiceFollowerOptions<K extends ObjectKind> {
  readonly kind: K
  readonly choice: KindChoice
  readonly nodeName: string
  readonly sink: ObjectSink
  /** How long to wait for the objects that choose; until they are there nothing is wished for. */
  readonly patienceMs: number
  readonly createReflector: (selection: Selection, sink: ObjectSink) => FollowedReflector<K>
  readonly onFailure: (task: string, error: unknown) => void
}

type FollowedReflector<K extends ObjectKind> = Pick<Reflector<K>, 'run' | 'status'>

interface Followed<K extends ObjectKind> {
  readonly reflector: FollowedReflector<K>
  readonly tasks: TaskGroup
  isListed: boolean
}

/**
 * Follows those objects of a kind that objects of another kind ask for, with a reflector for each selection. When the
 * selections change, the old ones are followed until the new ones are listed, so that nothing is missing in between.
 */
export class ChoiceFollower<K extends ObjectKind> {
  readonly #options: ChoiceFollowerOptions<K>
  readonly #merged: MergedSelections<K>
  readonly #followed = new Map<string, Followed<K>>()
  readonly #ending: TaskGroup
  #isRunning = false
  #isImpatient = false
  /** To be told of every object that the source delivers. */
  readonly wishes: Wishes<ObjectKind>

  constructor(options: ChoiceFollowerOptions<K>) {
    this.#options = options
    this.#merged = new MergedSelections(options.kind, options.sink)
    this.#ending = new TaskGroup(options.onFailure)
    this.wishes = Wishes.of(options.choice, () => this.#update())
  }

  status(): readonly ResourceStatus[] {
    return [...this.#followed.values()].map(({ reflector }) => reflector.status())
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    this.#isRunning = true
    this.#update()
    try {
      await sleep(this.#options.patienceMs, signal)
      this.#isImpatient = true
      this.#update()
      await aborted(signal)
    } finally {
      this.#isRunning = false
      for (const key of [...this.#followed.keys()]) this.#stop(key)
      await this.#ending.idle(new AbortController().signal)
    }
  }

  #update(): void {
    if (!this.#isRunning || !(this.wishes.isKnown || this.#isImpatient)) return
    const selections = this.wishes.selections(this.#options.nodeName)
    const wanted = new Map(selections.map((selection) => [selectionKeyOf(selection), selection]))
    for (const [key, selection] of wanted) if (!this.#followed.has(key)) this.#start(key, selection)
    if (wanted.size === 0) this.#merged.listNothing()
    if ([...wanted.keys()].some((key) => this.#followed.get(key)?.isListed !== true)) return
    for (const key of [...this.#followed.keys()]) {
      if (wanted.has(key)) continue
      this.#stop(key)
      this.#merged.drop(key)
    }
  }

  #start(key: string, selection: Selection): void {
    const { createReflector, kind, onFailure } = this.#options
    const sink = this.#merged.partOf(key, () => {
      followed.isListed = true
      this.#update()
    })
    const followed = { reflector: createReflector(selection, sink), tasks: new TaskGroup(onFailure), isListed: false }
    this.#followed.set(key, followed)
    followed.tasks.run(`following ${kind}`, (signal) => followed.reflector.run(signal))
  }

  #stop(key: string): void {
    const tasks = this.#followed.get(key)?.tasks
    this.#followed.delete(key)
    if (tasks !== undefined) this.#ending.run('ending a selection', () => tasks[Symbol.asyncDispose]())
  }
}
