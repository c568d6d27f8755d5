import { TaskGroup } from '../runtime/index.ts'
import type { Logger } from './logger.ts'

/** A group of background tasks, of which those that fail are logged as errors with this sentence. */
export function createLoggedTasks(logger: Logger, sentence = 'background task failed'): TaskGroup {
  return new TaskGroup((task, error) => logger.error({ task, error }, sentence))
}
