import type { KubeObjects, ObjectKind, ObjectSink } from '../../catalog/index.ts'
import type { ObjectKey, ObjectReport } from '../../model/index.ts'
import { createLoggedTasks, type Logger, type Metrics } from '../../observability/index.ts'
import type { TaskGroup } from '../../runtime/index.ts'
import { basicKinds } from '../basic-kinds.ts'
import type { KubeConfig } from '../config.ts'
import type { ApiStatus, ObjectSource, ResourceStatus } from '../object-source.ts'
import { type ApiAccess, createCachedAccess } from './access/access.ts'
import type { Environment } from './access/in-cluster.ts'
import { ApiClient, type RequestTimeouts } from './api-client.ts'
import { ChoiceFollower } from './choice-follower.ts'
import { chooseOrigin, type Origin } from './choose-origin.ts'
import { probeApi } from './list-objects.ts'
import { Reflector, type ReflectorTiming } from './reflector.ts'
import { addressOf, type Selection, type WatchedKind, watchedKinds } from './resources.ts'
import { TokenBucket } from './token-bucket.ts'
import { writeReport } from './write-report.ts'

/** Which API to follow and where its objects go. */
export interface ApiSourceOptions {
  readonly config: KubeConfig
  readonly env: Environment
  readonly sink: ObjectSink
  /** What is followed; nodes, services and their endpoints when absent. */
  readonly kinds?: readonly ObjectKind[]
  /** Whose Pods are followed; needed for the kind `pods`. */
  readonly nodeName?: string
  readonly logger: Logger
  readonly metrics: Metrics
  /** How this program names itself to the API. */
  readonly userAgent: string
  /** Where a Pod's service account is mounted, when it is not where Kubernetes does. */
  readonly serviceAccount?: string
  /** True when the sink holds objects of an earlier run; false when absent. */
  readonly isWarm?: () => boolean
  readonly timing?: Partial<ReflectorTiming>
}

const usualTiming: Omit<ReflectorTiming, 'recheckMs'> = {
  retry: { firstMs: 1_000, maxMs: 30_000, jitter: 0.5 },
  watchSeconds: [300, 600],
  shortWatchMs: 5_000,
  patienceMs: 10_000,
  random: Math.random,
}

/**
 * Follows an API server or metaServer. Returns at once, because a node must work while its API is away: what is known
 * stays in force until the API answers, however late that is.
 */
export function startApiSource(options: ApiSourceOptions): ObjectSource<ApiStatus> {
  return new ApiSource(options)
}

/** What keeps one kind up to date. */
interface Follower {
  status(): readonly ResourceStatus[]
}

class ApiSource implements ObjectSource<ApiStatus> {
  readonly #options: ApiSourceOptions
  readonly #timing: ReflectorTiming
  readonly #tasks: TaskGroup
  readonly #rate: TokenBucket
  #chosen: { readonly origin: Origin; readonly client: ApiClient } | undefined
  #url = ''
  #waitingFor = 'looking for an API'
  readonly #followers: Follower[] = []
  readonly #choosing: ObjectSink[] = []
  /** Tells those who follow by what they see, too. */
  readonly #sink: ObjectSink = {
    replace: <K extends ObjectKind>(kind: K, objects: readonly KubeObjects[K][]) => {
      this.#options.sink.replace(kind, objects)
      for (const choosing of this.#choosing) choosing.replace(kind, objects)
    },
    put: <K extends ObjectKind>(kind: K, object: KubeObjects[K]) => {
      this.#options.sink.put(kind, object)
      for (const choosing of this.#choosing) choosing.put(kind, object)
    },
    remove: (kind: ObjectKind, key: ObjectKey) => {
      this.#options.sink.remove(kind, key)
      for (const choosing of this.#choosing) choosing.remove(kind, key)
    },
  }

  constructor(options: ApiSourceOptions) {
    const { logger, config } = options
    this.#options = options
    const recheckMs = 1_000 * config.recheckPeriod
    this.#timing = { ...usualTiming, recheckMs, ...options.timing }
    this.#rate = new TokenBucket(config)
    this.#tasks = createLoggedTasks(logger, 'following the API ended')
    this.#tasks.run('choice of the API', (signal) => this.#begin(signal))
  }

  status(): ApiStatus {
    return {
      kind: 'api',
      origin: this.#chosen?.origin.origin,
      url: this.#url,
      reason: this.#chosen?.origin.reason ?? this.#waitingFor,
      resources: this.#followers.flatMap((follower) => follower.status()),
    }
  }

  async report(kind: ObjectKind, key: ObjectKey, report: ObjectReport, signal: AbortSignal): Promise<void> {
    const used = this.#followers.flatMap((follower) => follower.status()).find((resource) => resource.kind === kind)
    const resource = watchedKinds[kind].resources.find(({ apiVersion }) => apiVersion === used?.apiVersion)
    if (this.#chosen === undefined || resource === undefined)
      throw new Error(`Cannot report ${key}: no API is followed`)
    const [namespace = '', name = ''] = key.split('/')
    const { path } = addressOf(resource, { namespace })
    await writeReport(this.#chosen.client, `${path}/${name}`, report, signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]()
    this.#chosen?.client[Symbol.dispose]()
  }

  async #begin(signal: AbortSignal): Promise<void> {
    const { config, env, serviceAccount, logger } = this.#options
    const origin = await chooseOrigin(
      {
        config,
        env,
        ...(serviceAccount !== undefined && { serviceAccount }),
        probe: (candidate, timeouts, ends) => this.#probe(candidate, timeouts, ends),
        onWaiting: (reason) => this.#wait(reason),
        random: this.#timing.random,
      },
      signal,
    )
    const access = this.#accessTo(origin, (url) => {
      this.#url = url
    })
    const client = this.#clientOf(access)
    this.#chosen = { origin, client }
    // What is wrong with the files that say how to reach it, each reflector reports and tries again.
    await access.connection().catch(() => {})
    logger.info({ address: this.#url, reason: origin.reason }, 'following an API')
    for (const kind of this.#options.kinds ?? basicKinds) this.#follow(kind, client, origin)
  }

  #follow<K extends ObjectKind>(kind: K, client: ApiClient, origin: Origin): void {
    const { choice } = watchedKinds[kind]
    if (choice === undefined) {
      const reflector = this.#createReflector(kind, client, origin, this.#sink)
      this.#followers.push({ status: () => [reflector.status()] })
      this.#tasks.run(`following ${kind}`, (signal) => reflector.run(signal))
      return
    }
    const { kinds = basicKinds, nodeName = '', logger } = this.#options
    const follower = new ChoiceFollower({
      kind,
      choice,
      nodeName,
      sink: this.#sink,
      patienceMs: this.#timing.patienceMs,
      createReflector: (selection, sink) => this.#createReflector(kind, client, origin, sink, selection),
      onFailure: (task, error) => logger.error({ task, error }, 'following the API ended'),
    })
    if (!kinds.includes(choice.dependsOn)) follower.wishes.replace(choice.dependsOn, [])
    this.#choosing.push(follower.wishes)
    this.#followers.push(follower)
    this.#tasks.run(`choosing ${kind}`, (signal) => follower.run(signal))
  }

  #createReflector<K extends ObjectKind>(
    kind: K,
    client: ApiClient,
    { habits }: Origin,
    sink: ObjectSink,
    selection?: Selection,
  ): Reflector<K> {
    const { logger, metrics, isWarm = () => false } = this.#options
    const malformed = metrics.counter('kube_malformed_objects_total', 'Objects of the API that cannot be used', [
      'kind',
    ])
    const onMalformed = () => malformed.add(1, { kind })
    const watched: WatchedKind<K> = watchedKinds[kind]
    const timing = this.#timing
    const common = { client, watched, sink, logger, habits, timing, isWarm, onMalformed }
    return new Reflector({ ...common, ...(selection !== undefined && { selection }) })
  }

  async #probe(origin: Origin, timeouts: RequestTimeouts, signal: AbortSignal): Promise<void> {
    using client = this.#clientOf(this.#accessTo(origin))
    await probeApi(client, timeouts, signal)
  }

  #wait(reason: string): void {
    if (reason !== this.#waitingFor) this.#options.logger.warn({ reason }, 'no API answers yet')
    this.#waitingFor = reason
  }

  #accessTo({ load }: Origin, onUrl: (url: string) => void = () => {}): ApiAccess {
    return createCachedAccess(async (isRefused) => {
      const connection = await load(isRefused)
      onUrl(connection.url.origin)
      return connection
    }, this.#options.logger)
  }

  #clientOf(access: ApiAccess): ApiClient {
    return new ApiClient({ access, rate: this.#rate, userAgent: this.#options.userAgent })
  }
}
