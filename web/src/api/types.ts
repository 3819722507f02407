/**
 * The API's types: the only place from which the page takes them. All are names for types of the generated client
 * (`schema.ts`, from the server's own OpenAPI document), so that a change of the API fails the check of types here.
 */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Author = Schemas["Author"];
export type Budget = Schemas["Budget"];
export type Usage = Schemas["Usage"];
export type Problem = Schemas["Problem"];
export type ErrorView = Schemas["ErrorView"];
export type ErrorBody = Schemas["ErrorBody"];
export type Role = Schemas["Role"];
export type Person = Schemas["Person"];
export type SignedIn = Schemas["SignedIn"];
export type PersonAdded = Schemas["PersonAdded"];
export type TokenCreated = Schemas["TokenCreated"];
export type StepView = Schemas["StepView"];
export type ImageState = Schemas["ImageState"];
export type ImageView = Schemas["ImageView"];
export type BuildFrame = Schemas["BuildFrame"];
export type RepositoryView = Schemas["RepositoryView"];
export type ModelProvider = Schemas["ModelProvider"];
export type ModelEffort = Schemas["ModelEffort"];
export type AddModel = Schemas["AddModel"];
export type ModelView = Schemas["ModelView"];
export type ModelTested = Schemas["ModelTested"];
export type SessionStatus = Schemas["SessionStatus"];
export type ChangeStatus = Schemas["ChangeStatus"];
export type ChangeRef = Schemas["ChangeRef"];
export type SessionView = Schemas["SessionView"];
export type Permission = Schemas["Permission"];
export type ApprovalView = Schemas["ApprovalView"];
export type CommitView = Schemas["CommitView"];
export type ChangeView = Schemas["ChangeView"];
export type FileDiffView = Schemas["FileDiffView"];
export type Health = Schemas["Health"];
export type CapabilityView = Schemas["CapabilityView"];
export type Machine = Schemas["Machine"];
export type MachineResources = Schemas["MachineResources"];
export type PoolView = Schemas["PoolView"];
export type DiskView = Schemas["DiskView"];
export type SessionEnvironment = Schemas["SessionEnvironment"];
export type ServiceView = Schemas["ServiceView"];
export type PortView = Schemas["PortView"];
export type SnapshotView = Schemas["SnapshotView"];
export type WarmView = Schemas["WarmView"];
export type EgressAddition = Schemas["EgressAddition"];
export type EgressSource = Schemas["EgressSource"];
export type EgressView = Schemas["EgressView"];
export type SecretInjection = Schemas["SecretInjection"];
export type AddSecret = Schemas["AddSecret"];
export type SecretView = Schemas["SecretView"];
export type CreateSession = Schemas["CreateSession"];
export type ForkSession = Schemas["ForkSession"];
export type AddPerson = Schemas["AddPerson"];
export type AddRepository = Schemas["AddRepository"];
export type CreateToken = Schemas["CreateToken"];
export type UseSignInLink = Schemas["UseSignInLink"];
export type SignIn = Schemas["SignIn"];
export type Exec = Schemas["Exec"];
export type Delivery = Schemas["Delivery"];
export type Command = Schemas["Command"];
export type Receipt = Schemas["Receipt"];
export type Content = Schemas["Content"];
export type BlockKind = Schemas["BlockKind"];
export type ToolOutcome = Schemas["ToolOutcome"];
export type ToolDisplay = Schemas["ToolDisplay"];
export type TodoItem = Schemas["TodoItem"];
export type SandboxPhase = Schemas["SandboxPhase"];
export type ForkPoint = Schemas["ForkPoint"];
export type ServicePhase = Schemas["ServicePhase"];
export type SnapshotReason = Schemas["SnapshotReason"];
export type SandboxStart = Schemas["SandboxStart"];
export type StartStage = Schemas["StartStage"];
export type TimelineMark = Schemas["TimelineMark"];
export type TurnOutcome = Schemas["TurnOutcome"];
export type Event = Schemas["Event"];
export type Entry = Schemas["Entry"];
export type Frame = Schemas["Frame"];

/** The version of the stream that this page speaks. */
export const PROTOCOL = 1;
