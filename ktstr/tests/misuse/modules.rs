//! Tests in modules without `test_main!`.

mod fair {
    use ktstr::prelude::*;

    #[ktstr_test]
    fn test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, &[])
    }
}
