import { Argument, Command, Help, Option } from 'commander'
import { type CommandContext, type CommandEntry, commandGroups, type ParameterHelp } from '../commands/index.ts'
import { renderHelpTail } from './help.ts'
import { renderVersion } from './version.ts'

/** Is told the exit code of the command that ran. */
type OnFinished = (exitCode: number) => void

const purpose =
  'edgemesh makes Kubernetes Services work between nodes that cannot reach each other: at the edge,\n' +
  'behind NAT, with the cloud away. An agent on each node answers cluster DNS and carries connections\n' +
  'to ClusterIPs; a server at a public address helps agents to find each other and relays for them.'

/** The command line as a parser: one parser command for each entry of the table. Throws `CommanderError`s. */
export function createProgram(
  commands: readonly CommandEntry[],
  context: CommandContext,
  onFinished: OnFinished,
): Command {
  const program = new Command('edgemesh')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.out(text),
      writeErr: (text) => context.err(text),
      outputError: (text, write) => write(renderUsageError(text)),
    })
    .configureHelp({ helpWidth: 100, visibleCommands: leavesOf, subcommandTerm: termOf })
    .description(purpose)
    .version(renderVersion(context.build), '--version', 'print version, commit, Node.js version and platform')
    .helpOption('-h, --help', 'print this page, or the page of a command')
    .addHelpText('after', `\n${renderHelpTail(commands)}`)
  for (const group of commandGroups) {
    for (const entry of commands.filter((candidate) => candidate.group === group)) {
      addCommand(program, entry, context, onFinished)
    }
  }
  addVersionCommand(program, context, onFinished)
  const help = new Command('help').argument('[command]').description('print the page of a command').helpGroup('Other:')
  return program.addHelpCommand(help)
}

function addCommand(program: Command, entry: CommandEntry, context: CommandContext, onFinished: OnFinished): void {
  const { parent, name } = placeOf(program, entry)
  const command = parent
    .command(name)
    .summary(entry.summary)
    .description(`${entry.summary}.`)
    .helpGroup(`${entry.group}:`)
  for (const parameter of entry.arguments ?? []) command.addArgument(argumentOf(parameter))
  for (const parameter of entry.options ?? []) command.addOption(optionOf(parameter))
  if (entry.example !== undefined) command.addHelpText('after', `\nExample:\n  ${entry.example}`)
  command.action(async () => {
    const { run } = await entry.load()
    onFinished(await run({ arguments: command.args, options: command.opts() }, context))
  })
}

function addVersionCommand(program: Command, context: CommandContext, onFinished: OnFinished): void {
  program
    .command('version')
    .description('print version, commit, Node.js version and platform')
    .helpGroup('Other:')
    .action(() => {
      context.out(`${renderVersion(context.build)}\n`)
      onFinished(0)
    })
}

/** `config schema` is the command `schema` of the family `config`, which is made when it is first needed. */
function placeOf(program: Command, entry: CommandEntry): { readonly parent: Command; readonly name: string } {
  const [family = '', name] = entry.name.split(' ')
  if (name === undefined) return { parent: program, name: family }
  const existing = program.commands.find((command) => command.name() === family)
  const parent = existing ?? program.command(family).helpCommand(false)
  return { parent, name }
}

function argumentOf({ syntax, description, choices }: ParameterHelp): Argument {
  const argument = new Argument(syntax, description)
  return choices === undefined ? argument : argument.choices(choices)
}

function optionOf({ syntax, description, choices }: ParameterHelp): Option {
  const option = new Option(syntax, description)
  return choices === undefined ? option : option.choices(choices)
}

/** The commands that do something, without the families they are in. */
function leavesOf(command: Command): Command[] {
  return new Help().visibleCommands(command).flatMap((child) => (child.commands.length > 0 ? leavesOf(child) : [child]))
}

/** `config schema [role]`: the words after the program's name that call a command. */
function termOf(command: Command): string {
  const words = [command.name()]
  for (let parent = command.parent; parent?.parent; parent = parent.parent) words.unshift(parent.name())
  const parameters = command.registeredArguments.map((argument) =>
    argument.required ? `<${argument.name()}>` : `[${argument.name()}]`,
  )
  return [...words, ...parameters].join(' ')
}

function renderUsageError(text: string): string {
  const message = text
    .trim()
    .replace(/^error: /, '')
    .replace(/\s*\(Did you mean (.*)\?\)$/s, ' (did you mean $1?)')
  return `edgemesh: ${message}; see edgemesh --help\n`
}
